//! What is done in a work tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{ROLLED_BACK, ours};
use super::subject::{Subject, copy, expect, rest, settle};
use crate::Failure;
use crate::child::{ask, git, measured, output};
use crate::rounds::{Benchmark, Cost, Side};

/// What stands in the way of an operation, in a clean work tree: nothing.
pub(super) fn status(subject: &Subject, quick: bool) -> Result<Benchmark, Failure> {
    let (own, peer) = (subject.work_tree("status-ops")?, subject.work_tree("status-git")?);
    let state = subject.folder.join("state-status");
    let run = move || {
        let (said, cost) = measured(&mut ours("status", &own, &state, &[])?)?;
        if said == "nothing\n" { Ok(cost) } else { Err(format!("in the way: {said}").into()) }
    };
    let by_git = move || {
        let arguments = ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"];
        let (said, cost) = measured(&mut git(&peer, &arguments))?;
        let clean = said.lines().all(|line| line.starts_with("# branch."));
        if clean { Ok(cost) } else { Err(format!("git found: {said}").into()) }
    };
    let sides = vec![Side::new("ops", run), Side::new("peer: git status", by_git)];
    let rounds = if quick { 15 } else { 51 };
    Ok(Benchmark { group: subject.group("status"), items: 1, bytes: None, rounds, sides })
}

/// From `main` to another branch, and in the next round back.
pub(super) fn checkout(subject: &Subject, quick: bool, to: &str) -> Result<Benchmark, Failure> {
    let state = subject.folder.join(format!("state-{to}"));
    // Few files can go there and back in one tree. Thousands cannot: ext4 gives the inodes that one
    // checkout frees to nobody for some minutes, and the next would mostly look for others.
    let rounds = match (to, quick) {
        ("far", true) => 3,
        ("far", false) => 11,
        (_, true) => 5,
        (_, false) => 30,
    };
    let trees = if to == "far" { rounds + 1 } else { 0 };
    let side = |who: &str| Trees::new(subject, &format!("{to}-{who}"), to, trees);
    let mut own = side("ops")?;
    let run = move || {
        own.turn(|tree, branch| Ok(measured(&mut ours("checkout", tree, &state, &[branch])?)?.1))
    };
    let mut plain = side("git")?;
    let by_git = move || {
        plain.turn(|tree, branch| Ok(measured(&mut git(tree, &["checkout", "-q", branch]))?.1))
    };
    let mut synced = side("synced")?;
    let by_git_synced = move || {
        synced.turn(|tree, branch| {
            let mut shell = Command::new("sh");
            let script = "git checkout -q \"$1\" && sync -f .";
            shell.args(["-c", script, "sh", branch]).current_dir(tree);
            Ok(measured(shell.env("GIT_CONFIG_GLOBAL", "/dev/null"))?.1)
        })
    };
    let sides = vec![
        Side::new("ops", run),
        Side::new("peer: git checkout", by_git),
        Side::new("peer: git checkout, synced", by_git_synced),
    ];
    let group = subject.group(&format!("checkout {to}"));
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}

/// A work tree that is on one branch and then on the other; or many of them, each of which goes to
/// the other branch once.
struct Trees {
    first: PathBuf,
    fresh: Option<Vec<PathBuf>>,
    copied: usize,
    other: String,
    on_main: bool,
}

impl Trees {
    fn new(subject: &Subject, name: &str, other: &str, fresh: usize) -> Result<Self, Failure> {
        let first = subject.work_tree(name)?;
        let other = other.to_owned();
        let mut trees = Self { first, fresh: None, copied: 0, other, on_main: true };
        if fresh > 0 {
            let copies: Result<_, _> = (0..fresh).map(|_| trees.copy()).collect();
            trees.fresh = Some(copies?);
        }
        Ok(trees)
    }

    fn copy(&mut self) -> Result<PathBuf, Failure> {
        self.copied += 1;
        let path = self.first.with_extension(self.copied.to_string());
        copy(&self.first, &path)?;
        rest(&path)?;
        Ok(path)
    }

    fn turn(
        &mut self,
        mut go: impl FnMut(&Path, &str) -> Result<Cost, Failure>,
    ) -> Result<Cost, Failure> {
        let next = self.fresh.as_mut().map(Vec::pop);
        let tree = match next {
            None => self.first.clone(),
            Some(Some(fresh)) => fresh,
            Some(None) => self.copy()?,
        };
        let branch = if self.on_main { self.other.as_str() } else { "main" };
        settle(&tree)?;
        let cost = go(&tree, branch)?;
        if ask(&tree, &["symbolic-ref", "--short", "HEAD"])? != branch {
            return Err(format!("HEAD is not on `{branch}`").into());
        }
        // Clean it must be, and at rest for the next one.
        rest(&tree)?;
        self.on_main = self.fresh.is_some() || !self.on_main;
        Ok(cost)
    }
}

/// A checkout of all files was killed at its end, before the commit: back to the old bytes. Git
/// knows no way back, and is told to check the old branch out.
pub(super) fn rollback(subject: &Subject, quick: bool) -> Result<Benchmark, Failure> {
    let tree = subject.work_tree("back-ops")?;
    let state = subject.folder.join("state-back");
    let main = ask(&tree, &["rev-parse", "main"])?;
    let run = move || {
        let killed = ours("checkout-killed", &tree, &state, &["far"])?.output()?;
        if killed.status.success() || ask(&tree, &["rev-parse", "HEAD"])? == main {
            return Err(format!("it was not killed at its end: {killed:?}").into());
        }
        settle(&tree)?;
        let (said, cost) = measured(&mut ours("recover", &tree, &state, &[])?)?;
        if said != ROLLED_BACK {
            return Err(format!("it did not go back: {said}").into());
        }
        expect(&tree, "HEAD", &main)?;
        rest(&tree)?;
        Ok(cost)
    };
    let peer = subject.work_tree("back-git")?;
    let by_git = move || {
        output(&mut git(&peer, &["checkout", "-q", "far"]))?;
        rest(&peer)?;
        settle(&peer)?;
        let cost = measured(&mut git(&peer, &["checkout", "-q", "--force", "main"]))?.1;
        rest(&peer)?;
        Ok(cost)
    };
    let sides = vec![Side::new("ops", run), Side::new("peer: git checkout --force", by_git)];
    let rounds = if quick { 5 } else { 101 };
    let group = subject.group("rollback of checkout far");
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}
