//! What stands in the way, all at once.

use std::fs;

use ops_git::{Blocker, GitRepository};

use crate::fixture::{World, git};

fn names(blockers: &[Blocker]) -> Vec<&'static str> {
    let mut names: Vec<_> = blockers.iter().map(Blocker::name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_clean_clone_is_clear() {
    let world = World::new();
    git(world.dir.path(), &["clone", "-q", "origin.git", "clone"]);
    let clone = GitRepository::open(world.dir.path().join("clone")).unwrap();
    let found = clone.inspect().await.unwrap();
    assert!(found.is_clear(), "{:?}", found.blockers);
    assert_eq!(found.head.unwrap().as_str(), world.head());
    assert_eq!(found.branch.unwrap().as_str(), "main");
    assert_eq!(found.upstream.unwrap(), "origin/main");
    assert!(!found.bare);

    let found = clone.inspect().await.unwrap();
    assert!(found.clone().expecting(&"main".parse().unwrap()).is_clear());
    let found = found.expecting(&"release".parse().unwrap());
    assert_eq!(names(&found.blockers), ["wrong_branch"]);
}

#[tokio::test]
async fn every_blocker_is_named_at_once() {
    let world = World::new();
    let dir = world.dir.path().join("clone");
    git(world.dir.path(), &["clone", "-q", "origin.git", "clone"]);
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    fs::write(dir.join("staged.txt"), "staged\n").unwrap();
    git(&dir, &["add", "staged.txt"]);
    fs::write(dir.join("new file"), "untracked\n").unwrap();
    fs::write(dir.join(".git/index.lock"), "").unwrap();
    fs::write(dir.join(".git/MERGE_HEAD"), format!("{}\n", world.head())).unwrap();
    let head = world.head();
    fs::write(dir.join(".git/HEAD"), format!("{head}\n")).unwrap();
    let found = GitRepository::open(&dir).unwrap().inspect().await.unwrap();
    assert_eq!(
        names(&found.blockers),
        ["detached_head", "dirty", "locked", "operation_in_progress"],
        "{:?}",
        found.blockers
    );
    let text = found.refusals().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in ["`a.txt`", "`staged.txt`", "`new file`", "index.lock", "merge", &head] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_failing_clean_filter_blocks_instead_of_reading_as_clean() {
    let world = World::new();
    fs::write(world.work().join(".gitattributes"), "*.txt filter=broken\n").unwrap();
    git(&world.work(), &["add", "."]);
    git(&world.work(), &["commit", "-q", "-m", "attributes"]);
    git(&world.work(), &["config", "filter.broken.clean", "false"]);
    git(&world.work(), &["config", "filter.broken.required", "true"]);
    // Racy and of the same size: only the filter could tell whether it changed.
    fs::write(world.work().join("a.txt"), "two\n").unwrap();
    let found = GitRepository::open(world.work()).unwrap().inspect().await.unwrap();
    let names = names(&found.blockers);
    assert!(names.contains(&"status_unknown") || names.contains(&"dirty"), "{:?}", found.blockers);
}

#[tokio::test]
async fn histories_that_went_apart_are_seen_from_the_last_fetch() {
    let world = World::new();
    let dir = world.dir.path().join("clone");
    git(world.dir.path(), &["clone", "-q", "origin.git", "clone"]);
    world.commit("a.txt", "theirs\n");
    world.push();
    git(&dir, &["commit", "-q", "--allow-empty", "-m", "ours"]);
    git(&dir, &["fetch", "-q"]);
    let found = GitRepository::open(&dir).unwrap().inspect().await.unwrap();
    let [Blocker::Diverged { ahead: 1, behind: 1, local, upstream, .. }] = &found.blockers[..]
    else {
        panic!("{:?}", found.blockers)
    };
    assert_eq!(local.as_str(), git(&dir, &["rev-parse", "HEAD"]));
    assert_eq!(upstream.as_str(), world.head());
}

#[tokio::test]
async fn somebody_elses_repository_is_not_believed() {
    let world = World::new();
    let mirror = world.mirror();
    let user = 12345;
    let given_away = std::process::Command::new("chown")
        .args(["-R", &user.to_string()])
        .arg(world.mirror_path())
        .status()
        .unwrap();
    if !given_away.success() {
        // Only root gives files away; to anybody else root's own folders are foreign.
        let found = GitRepository::open("/").map(drop);
        assert!(found.is_err());
        return;
    }
    let found = mirror.inspect().await.unwrap();
    assert!(names(&found.blockers).contains(&"untrusted_owner"), "{:?}", found.blockers);
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ops_git::ErrorKind::Refused);
    assert!(error.to_string().contains("belongs to another user"), "{error}");
    let error = mirror.plan_export("main", world.dir.path().join("out")).await.unwrap_err();
    assert_eq!(error.kind(), ops_git::ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn no_upstream_and_no_repository() {
    let world = World::new();
    let found = GitRepository::open(world.work()).unwrap().inspect().await.unwrap();
    assert_eq!(names(&found.blockers), ["no_upstream"]);
    let error = GitRepository::open(world.dir.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ops_git::ErrorKind::NotFound);
    assert!(GitRepository::open(world.dir.path()).is_err());
}
