//! Killed at every place, also in its recovery: old or new, never between.

use std::fs;
use std::path::Path;
use std::process::Command;

use ops_core::crash::{CrashTest, State, Summary};

use crate::fixture::{World, git};
use crate::killed::{assert_covers, fsck, killed};

/// A world whose mirror is one commit behind.
fn template() -> World {
    let world = World::new();
    let cx = world.cx();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(world.mirror().safe_pull(&cx)).unwrap();
    world.commit("a.txt", "two\n");
    world.commit("b/c.txt", "three\n");
    world.push();
    fs::remove_dir_all(world.dir.path().join("state")).unwrap();
    world
}

fn test(world: &World, what: &'static str) -> CrashTest {
    let from = world.mirror_path();
    let (old, new) = (git(&from, &["rev-parse", "main"]), world.head());
    killed((from, "mirror.git"), what, "recover")
        .check(move |dir| check(dir, &old, &new))
        .recovery_every(5)
}

fn check(dir: &Path, old: &str, new: &str) -> Result<State, String> {
    let mirror = dir.join("mirror.git");
    fsck(&mirror, &["--strict", "--no-dangling"])?;
    let locks =
        Command::new("find").arg(mirror.join("refs/heads")).args(["-name", "*.lock"]).output();
    let locks = String::from_utf8(locks.unwrap().stdout).unwrap();
    if !locks.is_empty() {
        return Err(format!("a lock is left: {locks}"));
    }
    let kept = git(&mirror, &["for-each-ref", "refs/ops-git"]);
    if !kept.is_empty() {
        return Err(format!("a recovery ref is left: {kept}"));
    }
    let left: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("ops-git-"))
        .collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}"));
    }
    let read = |path: &str| fs::read_to_string(dir.join("release").join(path)).ok();
    let exported = (read("a.txt"), read("b/c.txt"));
    let whole = (Some("two\n".to_owned()), Some("three\n".to_owned()));
    match git(&mirror, &["rev-parse", "main"]) {
        at if at == old && !dir.join("release").exists() => Ok(State::Old),
        at if at == new && exported == whole => Ok(State::New),
        at => Err(format!("main is at {at}, the release holds {exported:?}")),
    }
}

const FORTH: [&str; 9] = [
    "git-ref-locked",
    "git-ref-renamed",
    "git-old-tip-kept",
    "git-branch-moved",
    "git-export-begun",
    "git-export-half-written",
    "git-export-written",
    "git-export-noted",
    "git-export-in-place",
];

#[test]
fn no_git_program_is_needed() {
    let world = template();
    let run = |what: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_git-crash-program"));
        program.env_clear().env("PATH", "/nonexistent").arg(world.dir.path()).arg(what);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("update");
    run("recover");
    assert_eq!(git(&world.mirror_path(), &["rev-parse", "main"]), world.head());
    assert_eq!(fs::read_to_string(world.dir.path().join("release/a.txt")).unwrap(), "two\n");
}

#[test]
fn killed_at_every_place_while_it_goes_forward() {
    let world = template();
    let summary = test(&world, "update").run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &FORTH);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn killed_at_every_place_while_it_goes_back() {
    let world = template();
    let summary = test(&world, "fail").operation_may_fail().run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &FORTH);
    assert_covers(&summary, &["git-branch-moved-back", "git-export-moved-away"]);
    assert_eq!(summary.new, 0, "what fails never commits: {summary}");
}

/// A world whose mirror has what upstream has left.
fn rewritten() -> World {
    let world = World::new();
    let base = world.head();
    world.commit("a.txt", "old\n");
    world.push();
    let cx = world.cx();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(world.mirror().safe_pull(&cx)).unwrap();
    git(&world.work(), &["reset", "-q", "--hard", &base]);
    world.commit("a.txt", "new\n");
    world.push();
    fs::remove_dir_all(world.dir.path().join("state")).unwrap();
    world
}

fn follow(what: &'static str) -> Summary {
    let world = rewritten();
    let from = world.mirror_path();
    let (old, new) = (git(&from, &["rev-parse", "main"]), world.head());
    killed((from, "mirror.git"), what, "recover")
        .operation_may_fail()
        .recovery_every(7)
        .check(move |dir| {
            let mirror = dir.join("mirror.git");
            fsck(&mirror, &["--strict", "--no-dangling"])?;
            let kept = git(&mirror, &["for-each-ref", "--format=%(objectname)", "refs/ops-git"]);
            match git(&mirror, &["rev-parse", "main"]) {
                at if at == old && kept.is_empty() => Ok(State::Old),
                at if at == new && kept == old => Ok(State::New),
                at => Err(format!("main is at {at}, kept is {kept:?}")),
            }
        })
        .run()
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn killed_at_every_place_while_a_rewritten_history_is_followed() {
    let forth = follow("pull");
    println!("{forth}");
    assert_covers(&forth, &["git-recovery-ref-made", "git-pack-in-place", "git-branch-moved"]);
    assert!(forth.old > 0 && forth.new > 0, "{forth}");
    let back = follow("pull-fail");
    println!("{back}");
    assert_covers(&back, &["git-recovery-ref-made", "git-branch-moved-back"]);
    assert_eq!(back.new, 0, "what fails never commits: {back}");
}
