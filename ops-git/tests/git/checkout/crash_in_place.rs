//! Killed at every place of a merge and a pull into the branch that the work tree is on, also in
//! the recovery: old or new to the byte, never between.

use std::path::Path;

use ops_core::crash::{CrashTest, State};

use super::arena::{Arena, carried_out, contents, shell, whole};
use super::crash::{killed, precious_is_saved, sound};
use crate::fixture::git;
use crate::killed::assert_covers;
use ops_git::{GitRepository, MergeOptions};

const BASE: &str = "keep=1 update=1 gone=1 d/gone=1 d/keep=1 mode=1 link@=keep file=1 f/x=1";
const OLD: &str = "keep=1 update=1 gone=1 d/gone=1 d/keep=2 mode=1 link@=keep file=1 f/x=1 own=7";
const NEW: &str = "keep=1 update=2 new=2 n/m/new=2 d/keep=1 mode*=1 link@=new file/x=2 f=2 i=9";
const SCRIPT: &str = "echo local >> keep; echo mine > untracked; mkdir u; echo mine > u/v; \
     echo i > .git/info/exclude; echo precious > i";

/// What a merge leaves: files, index, and the parents of the branch's tip.
fn after(work: &Path) -> (std::collections::BTreeMap<std::path::PathBuf, String>, String, String) {
    let parents = git(work, &["log", "-1", "--format=%P %T", "old"]);
    (contents(work), git(work, &["ls-files", "--stage"]), parents)
}

fn merges(arena: &Arena, what: &'static str) -> CrashTest {
    let start = arena.copy("template");
    let before = whole(&start);
    let done = arena.copy("done");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let repository = GitRepository::open(&done).unwrap();
        let options = MergeOptions::default().overwrite_ignored();
        let plan = repository.plan_merge(&arena.cx(), "new", options).await;
        carried_out(arena, &repository, plan).await;
    });
    let expected = after(&done);
    killed(start, what).check(move |dir| {
        let work = sound(dir)?;
        if git(&work, &["symbolic-ref", "--short", "HEAD"]) != "old" {
            return Err("HEAD left its branch".into());
        }
        let heads = git(&work, &["rev-parse", "HEAD", "old"]);
        let (head, branch) = heads.split_once('\n').unwrap();
        assert_eq!(head, branch);
        if whole(&work).same_bytes(&before) {
            return Ok(State::Old);
        }
        if after(&work) == expected {
            return precious_is_saved(&work).map(|()| State::New);
        }
        Err(format!("between: {:#?}", after(&work)))
    })
}

#[test]
fn killed_at_every_place_while_it_merges_into_its_work_tree() {
    let arena = Arena::forked(BASE, OLD, NEW, SCRIPT);
    let summary = merges(&arena, "worktree-merge").run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(
        &summary,
        &[
            "git-object-half-written",
            "git-object-written",
            "git-checkout-locked",
            "git-checkout-staged",
            "git-checkout-noted",
            "git-checkout-file-taken",
            "git-checkout-file-exchanged",
            "git-checkout-file-put",
            "git-checkout-index-written",
            "git-checkout-index",
            "git-ref-locked",
            "git-ref-renamed",
            "git-checkout-pointed",
            "git-checkout-done",
            "git-checkout-swept",
            "git-checkout-back-file",
        ],
    );
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn killed_at_every_place_while_a_merge_goes_back_with_its_work_tree() {
    let arena = Arena::forked(BASE, OLD, NEW, SCRIPT);
    let test = merges(&arena, "worktree-merge-fail").operation_may_fail().every(3);
    let summary = test.run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &["git-checkout-back-file", "git-checkout-back-pointed"]);
    assert_eq!(summary.new, 0, "what fails never commits: {summary}");
}

#[test]
fn killed_while_it_pulls_into_its_work_tree() {
    let arena = Arena::forked(BASE, BASE, NEW, "");
    let work = arena.path("cloned");
    shell(
        arena.dir.path(),
        "git -C start branch -q main old; git -C start checkout -q main\n\
         git clone -q $PWD/start cloned; git -C start checkout -q new -- update n\n\
         git -C start rm -q gone; git -C start commit -qm next",
    );
    shell(&work, SCRIPT);
    let at = |work: &Path| (contents(work), git(work, &["rev-parse", "main"]));
    let before = at(&work);
    let index = git(&work, &["ls-files", "--stage"]);
    let next = git(&arena.path("start"), &["rev-parse", "main"]);
    let files = git(&arena.path("start"), &["ls-files", "--stage"]);
    let summary = killed(work, "worktree-pull")
        .every(3)
        .check(move |dir| {
            let work = sound(dir)?;
            let staged = git(&work, &["ls-files", "--stage"]);
            match git(&work, &["rev-parse", "main"]) {
                _ if at(&work) == before && staged == index => Ok(State::Old),
                main if main == next && staged == files => {
                    let status = git(&work, &["status", "--porcelain"]);
                    let clean = status == "M keep\n?? u/\n?? untracked";
                    clean.then_some(State::New).ok_or(status)
                }
                main => Err(format!("main at {main}: {:#?}", contents(&work))),
            }
        })
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}
