//! What is done in a work tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::{ask, git, measured, output};
use super::our_program::{ROLLED_BACK, ours};
use super::subject::{Subject, expect, rest, settle};
use crate::Failure;
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
    let side = |who: &str| Toggle::new(subject, &format!("{to}-{who}"), to);
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
    let rounds = if quick { 5 } else { 30 };
    let group = subject.group(&format!("checkout {to}"));
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}

/// A work tree that is on one branch and then on the other.
struct Toggle {
    tree: PathBuf,
    other: String,
    on_main: bool,
}

impl Toggle {
    fn new(subject: &Subject, name: &str, other: &str) -> Result<Self, Failure> {
        Ok(Self { tree: subject.work_tree(name)?, other: other.to_owned(), on_main: true })
    }

    fn turn(
        &mut self,
        mut go: impl FnMut(&Path, &str) -> Result<Cost, Failure>,
    ) -> Result<Cost, Failure> {
        let branch = if self.on_main { self.other.as_str() } else { "main" };
        settle(&self.tree)?;
        let cost = go(&self.tree, branch)?;
        if ask(&self.tree, &["symbolic-ref", "--short", "HEAD"])? != branch {
            return Err(format!("HEAD is not on `{branch}`").into());
        }
        // Clean it must be, and at rest for the next one.
        rest(&self.tree)?;
        self.on_main = !self.on_main;
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
