//! What needs no work tree: fetching into a mirror, exporting, merging in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::ours;
use super::server::Server;
use super::subject::{Subject, copy, expect, quiet, settle, text};
use crate::Failure;
use crate::child::{ask, git, measured, output};
use crate::rounds::{Benchmark, Side};

/// What a side starts, for the place that it is to work on.
type MakeCommand = Box<dyn FnMut(&Path) -> Result<Command, Failure>>;

/// A remote that has `main` alone, and a mirror that has pulled it.
struct Mirrored {
    main: String,
    mirror: PathBuf,
    server: Option<Server>,
}

impl Mirrored {
    fn new(subject: &Subject, name: &str, over_http: bool, first: &str) -> Result<Self, Failure> {
        let folder = subject.folder.join(name);
        std::fs::create_dir(&folder)?;
        let all = subject.bare();
        let (remote, mirror) = (folder.join("remote.git"), folder.join("mirror.git"));
        let clone = ["clone", "-q", "--bare", "--no-local", "--single-branch", "-b", "main"];
        let clone = [&clone[..], &[text(&all)?, text(&remote)?]].concat();
        ask(&folder, &clone)?;
        let main = ask(&remote, &["rev-parse", "main"])?;
        let first = ask(&all, &["rev-parse", first])?;
        ask(&remote, &["update-ref", "refs/heads/main", &first])?;
        let server = over_http.then(|| Server::start(&folder)).transpose()?;
        let url = match &server {
            Some(server) => server.url("remote.git"),
            None => text(&remote)?.to_owned(),
        };
        output(&mut ours("mirror", &mirror, &folder.join("state"), &[&url])?)?;
        quiet(&mirror)?;
        ask(&remote, &["update-ref", "refs/heads/main", &main])?;
        Ok(Self { main, mirror, server })
    }

    fn copy(&self, name: &str) -> Result<PathBuf, Failure> {
        let to = self.mirror.with_file_name(name);
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        copy(&self.mirror, &to)?;
        Ok(to)
    }
}

/// A fetch that finds nothing new; over http, the server's work does not count.
pub(super) fn nothing_new(
    subject: &Subject,
    quick: bool,
    over_http: bool,
) -> Result<Benchmark, Failure> {
    let how = if over_http { "http" } else { "file" };
    let mirrored = Mirrored::new(subject, &format!("idle-{how}"), over_http, "main")?;
    let (own, peer) = (mirrored.copy("ops.git")?, mirrored.copy("git.git")?);
    let (state, main) = (subject.folder.join(format!("state-idle-{how}")), mirrored.main.clone());
    let run = move || {
        // It serves as long as a side is there.
        let _served = &mirrored.server;
        let (said, cost) = measured(&mut ours("fetch", &own, &state, &[])?)?;
        if said == format!("{main}\n") { Ok(cost) } else { Err(format!("got {said}").into()) }
    };
    let by_git = move || Ok(measured(&mut git(&peer, &["fetch", "-q", "origin"]))?.1);
    let sides = vec![Side::new("ops", run), Side::new("peer: git fetch", by_git)];
    let rounds = if quick { 15 } else { 51 };
    let group = subject.group(&format!("fetch of nothing, {how}"));
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}

/// A fetch of all that `main` has on top of `before`.
pub(super) fn fetch(subject: &Subject, quick: bool) -> Result<Benchmark, Failure> {
    let mirrored = std::rc::Rc::new(Mirrored::new(subject, "fetch", false, "before")?);
    let state = subject.folder.join("state-fetch");
    let side = |name: &'static str, mut command: MakeCommand| {
        let mirrored = std::rc::Rc::clone(&mirrored);
        move || {
            let mirror = mirrored.copy(name)?;
            settle(&mirror)?;
            let cost = measured(&mut command(&mirror)?)?.1;
            expect(&mirror, "refs/remotes/origin/main", &mirrored.main)?;
            Ok(cost)
        }
    };
    let run = side("ops.git", Box::new(move |mirror| ours("fetch", mirror, &state, &[])));
    let by_git = side("git.git", Box::new(|mirror| Ok(git(mirror, &["fetch", "-q", "origin"]))));
    let sides = vec![Side::new("ops", run), Side::new("peer: git fetch", by_git)];
    let rounds = if quick { 5 } else { 30 };
    let group = subject.group(&format!("fetch of {} commits, file", subject.commits));
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}

/// The tree of `main` in a new folder.
pub(super) fn export(subject: &Subject, quick: bool) -> Benchmark {
    let bare = subject.bare();
    let state = subject.folder.join("state-export");
    let side = |name: &str, mut command: MakeCommand| {
        let folder = subject.folder.join(format!("export-{name}"));
        let files = subject.files;
        move || {
            settle(folder.parent().unwrap_or(Path::new("/")))?;
            let cost = measured(&mut command(&folder)?)?.1;
            let there = count(&folder)?;
            if there != files {
                return Err(format!("{there} files were exported, not {files}").into());
            }
            std::fs::remove_dir_all(&folder)?;
            Ok(cost)
        }
    };
    let from = bare.clone();
    let run = side(
        "ops",
        Box::new(move |folder| ours("export", &from, &state, &["main", text(folder)?])),
    );
    let archive = |end: &'static str| -> MakeCommand {
        let bare = bare.clone();
        Box::new(move |folder| {
            let script = format!("mkdir \"$1\" && git archive main | tar -x -C \"$1\"{end}");
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, "sh", text(folder)?]).current_dir(&bare);
            shell.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
            Ok(shell)
        })
    };
    let sides = vec![
        Side::new("ops", run),
        Side::new("peer: git archive | tar", side("tar", archive(""))),
        Side::new("peer: git archive | tar, synced", side("synced", archive(" && sync -f \"$1\""))),
    ];
    let rounds = if quick { 5 } else { 30 };
    Benchmark { group: subject.group("export"), items: 1, bytes: None, rounds, sides }
}

fn count(folder: &Path) -> Result<usize, Failure> {
    let mut found = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        found += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(found)
}

/// `theirs` into `ours`, in memory. Git writes the objects of its answer besides.
pub(super) fn merge(subject: &Subject, quick: bool) -> Result<Benchmark, Failure> {
    let (own, peer) = (subject.folder.join("merge-ops.git"), subject.folder.join("merge-git.git"));
    copy(&subject.bare(), &own)?;
    copy(&subject.bare(), &peer)?;
    let state = subject.folder.join("state-merge");
    let tree = output(&mut git(&peer, &["merge-tree", "--write-tree", "ours", "theirs"]))?;
    let run = move || {
        let (said, cost) = measured(&mut ours("merge", &own, &state, &["ours", "theirs"])?)?;
        if said == tree { Ok(cost) } else { Err(format!("git has {tree}, we have {said}").into()) }
    };
    let by_git =
        move || Ok(measured(&mut git(&peer, &["merge-tree", "--write-tree", "ours", "theirs"]))?.1);
    let sides = vec![Side::new("ops", run), Side::new("peer: git merge-tree", by_git)];
    let rounds = if quick { 11 } else { 51 };
    Ok(Benchmark { group: subject.group("merge"), items: 1, bytes: None, rounds, sides })
}
