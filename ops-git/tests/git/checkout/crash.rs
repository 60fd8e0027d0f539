//! Killed at every place of a checkout, also in its recovery: old or new to the byte, never between.

use std::path::{Path, PathBuf};

use ops_core::crash::{CrashTest, State};

use super::arena::{Arena, contents, ours, tidy, whole};
use crate::fixture::git;
use crate::killed::{assert_covers, fsck};

const OLD: &str =
    "keep=1 update=1 gone=1 d/gone=1 d/keep=1 e/only=1 mode=1 link@=keep file=1 f/x=1 s%=1";
const NEW: &str =
    "keep=1 update=2 new=2 n/m/new=2 d/keep=1 mode*=1 link@=new file/x=2 f=2 t%=2 i=9";
const SCRIPT: &str = "echo local >> keep; echo mine > untracked; mkdir u; echo mine > u/v; chmod 750 e; \
     echo staged > added; git add added; echo i > .git/info/exclude; echo precious > i";

fn test(arena: &Arena, what: &'static str) -> CrashTest {
    let start = arena.copy("template");
    let before = whole(&start);
    let done = arena.copy("done");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = ops_git::CheckoutOptions::default().overwrite_ignored();
    runtime.block_on(ours(arena, &done, "new", options));
    let after = (contents(&done), git(&done, &["ls-files", "--stage"]));
    killed(start, what).check(move |dir| {
        let work = sound(dir)?;
        match git(&work, &["symbolic-ref", "--short", "HEAD"]).as_str() {
            "old" if whole(&work).same_bytes(&before) => Ok(State::Old),
            "new" if (contents(&work), git(&work, &["ls-files", "--stage"])) == after => {
                precious_is_saved(&work).map(|()| State::New)
            }
            at => Err(format!("HEAD on {at}: {:#?}", contents(&work))),
        }
    })
}

/// A program on a copy of a work tree, which is called `work`, and its recovery.
pub fn killed(start: PathBuf, what: &'static str) -> CrashTest {
    crate::killed::killed((start, "work"), what, "worktree-recover").recovery_every(17)
}

/// Nothing of ours is left in the work tree, and git finds it sound.
pub fn sound(dir: &Path) -> Result<PathBuf, String> {
    let work = dir.join("work");
    tidy(&work);
    fsck(&work, &["--connectivity-only"])?;
    Ok(work)
}

pub fn precious_is_saved(work: &Path) -> Result<(), String> {
    let mut lost = Vec::new();
    find(&work.join(".git/ops-git/lost"), &mut lost);
    match lost.as_slice() {
        [only] if std::fs::read(only).unwrap() == b"precious\n" => Ok(()),
        other => Err(format!("the ignored file is not saved: {other:?}")),
    }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { find(&path, found) } else { found.push(path) }
    }
}

const FORTH: [&str; 14] = [
    "git-checkout-locked",
    "git-checkout-half-staged",
    "git-checkout-staged",
    "git-checkout-noted",
    "git-checkout-file-taken",
    "git-checkout-folders-removed",
    "git-checkout-folders-made",
    "git-checkout-file-exchanged",
    "git-checkout-file-put",
    "git-checkout-moved",
    "git-checkout-index-written",
    "git-checkout-index",
    "git-head-locked",
    "git-head-moved",
];

#[test]
fn killed_at_every_place_while_it_checks_out() {
    let arena = Arena::new(OLD, NEW, SCRIPT);
    let summary = test(&arena, "worktree-checkout").run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &FORTH);
    assert_covers(&summary, &["git-checkout-swept", "git-checkout-back-file"]);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn killed_at_every_place_while_a_checkout_goes_back() {
    let arena = Arena::new(OLD, NEW, SCRIPT);
    let summary = test(&arena, "worktree-checkout-fail")
        .operation_may_fail()
        .every(2)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(
        &summary,
        &["git-checkout-back-file", "git-checkout-back-index", "git-checkout-manifest-removed"],
    );
    assert_eq!(summary.new, 0, "what fails never commits: {summary}");
}
