//! A merge and a tag in one operation, killed at every place, also in its recovery.

use std::fs;
use std::path::Path;

use ops_core::crash::{CrashTest, State};

use crate::by_git::merge_by_git;
use crate::fixture::{World, git};
use crate::killed::{assert_covers, fsck, killed};
use crate::merge_steps::forked;

struct Expected {
    ours: String,
    theirs: String,
    tree: String,
}

fn world() -> (World, Expected) {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(forked(&world));
    fs::remove_dir_all(world.dir.path().join("state")).unwrap();
    // Git writes what it merges, so it is asked in a copy.
    let copy = world.dir.path().join("copy.git");
    git(world.dir.path(), &["clone", "-q", "--mirror", "mirror.git", "copy.git"]);
    let (ours, theirs) = (world.mirrored("main"), world.mirrored("origin/topic"));
    let tree = merge_by_git(&copy, &ours, &theirs).unwrap().tree;
    (world, Expected { ours, theirs, tree })
}

fn test(world: &World, expected: Expected, what: &'static str) -> CrashTest {
    let from = world.mirror_path();
    killed((from, "mirror.git"), what, "recover")
        .check(move |dir| check(dir, &expected))
        .recovery_every(17)
}

fn check(dir: &Path, expected: &Expected) -> Result<State, String> {
    let mirror = dir.join("mirror.git");
    fsck(&mirror, &["--strict", "--no-dangling"])?;
    if let Some(left) = left_behind(&mirror) {
        return Err(format!("left behind: {left}"));
    }
    let format = "--format=%(refname) %(objectname) %(*objectname)%(parent) %(tree)";
    let refs = git(&mirror, &["for-each-ref", format]);
    let of = |name: &str| {
        let line = refs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().trim().to_owned()
    };
    if refs.contains("refs/ops-git") {
        return Err(format!("a ref is left behind: {refs}"));
    }
    let (main, tag) = (of("refs/heads/main"), of("refs/tags/before"));
    let tag = tag.split_once(' ').map_or(String::new(), |(_, commit)| commit.to_owned());
    let merged = format!("{} {} {}", expected.ours, expected.theirs, expected.tree);
    match (main.split_once(' '), tag.as_str()) {
        (Some((at, _)), "") if at == expected.ours => Ok(State::Old),
        (Some((_, rest)), tag) if rest == merged && tag == expected.ours => Ok(State::New),
        found => Err(format!("between: {found:?}")),
    }
}

/// The file that operations lock, which stays.
const OWN_LOCK: &str = "ops-git.lock";

/// The first lock or temporary below a folder.
fn left_behind(folder: &Path) -> Option<String> {
    let lock = Some("lock".as_ref());
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            let found = left_behind(&path);
            if found.is_some() {
                return found;
            }
        } else if name.starts_with("tmp_obj") || (path.extension() == lock && name != OWN_LOCK) {
            return Some(path.display().to_string());
        }
    }
    None
}

const FORTH: [&str; 6] = [
    "git-object-half-written",
    "git-object-written",
    "git-tag-announced",
    "git-tag-made",
    "git-old-tip-kept",
    "git-branch-moved",
];

#[test]
fn a_merge_is_killed_at_every_place_while_it_goes_forward() {
    let (world, expected) = world();
    let summary = test(&world, expected, "merge").run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &FORTH);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn a_merge_is_killed_at_every_place_while_it_goes_back() {
    let (world, expected) = world();
    let test = test(&world, expected, "merge-fail").operation_may_fail();
    let summary = test.run().unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(&summary, &FORTH);
    assert_covers(&summary, &["git-branch-moved-back", "git-tag-removed"]);
    assert_eq!(summary.new, 0, "what fails never commits: {summary}");
}
