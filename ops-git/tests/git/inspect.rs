//! What stands in the way, all at once.

use std::fs;

use ops_git::{Blocker, GitRepository, InspectOptions};

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
        ["detached_head", "dirty", "locked", "operation_in_progress", "untracked"],
        "{:?}",
        found.blockers
    );
    let text = found.refusals().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in ["`a.txt`", "`staged.txt`", "`new file`", "index.lock", "merge", &head] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn what_is_allowed_passes_and_nothing_else() {
    let world = World::new();
    let dir = world.dir.path().join("clone");
    git(world.dir.path(), &["clone", "-q", &url(&world), "clone"]);
    git(&dir, &["checkout", "-q", "--detach"]);
    fs::create_dir(dir.join("folder")).unwrap();
    fs::write(dir.join("folder/one"), "").unwrap();
    fs::write(dir.join("folder/two"), "").unwrap();
    let clone = GitRepository::open(&dir).unwrap();
    let found = clone.inspect().await.unwrap();
    assert_eq!(names(&found.blockers), ["detached_head", "untracked"]);
    let untracked = |blocker: &Blocker| matches!(blocker, Blocker::Untracked { total: 1, .. });
    assert!(found.blockers.iter().any(untracked), "a folder counts once: {:?}", found.blockers);

    let options = InspectOptions::default().allow_detached_head();
    let found = clone.inspect_with(options.clone()).await.unwrap();
    assert_eq!(names(&found.blockers), ["untracked"]);
    let options = options.allow_untracked();
    assert!(clone.inspect_with(options.clone()).await.unwrap().is_clear());
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    let found = clone.inspect_with(options).await.unwrap();
    assert_eq!(names(&found.blockers), ["dirty"]);

    git(&dir, &["checkout", "-q", "-f", "-b", "own"]);
    world.commit("a.txt", "two\n");
    world.push();
    git(&dir, &["fetch", "-q", "--depth", "1"]);
    let options = InspectOptions::default().allow_untracked().on_branch("main".parse().unwrap());
    let found = clone.inspect_with(options.clone()).await.unwrap();
    assert_eq!(names(&found.blockers), ["no_upstream", "shallow", "wrong_branch"]);
    let found = clone.inspect_with(options.allow_no_upstream().allow_shallow()).await.unwrap();
    assert_eq!(names(&found.blockers), ["wrong_branch"]);

    let options = InspectOptions::default().allow_untracked().free_space(u64::MAX);
    let found = clone.inspect_with(options.allow_no_upstream().allow_shallow()).await.unwrap();
    assert_eq!(names(&found.blockers), ["disk_full", "disk_full"]);
}

fn url(world: &World) -> String {
    format!("file://{}", world.origin().display())
}

#[tokio::test]
async fn what_the_index_hides_is_found() {
    let world = World::new();
    let dir = world.work();
    world.commit("b.txt", "one\n");
    world.commit("c.txt", "one\n");
    let repository = GitRepository::open(&dir).unwrap();
    let options = InspectOptions::default().allow_no_upstream();
    git(&dir, &["update-index", "--assume-unchanged", "a.txt", "b.txt"]);
    assert!(repository.inspect_with(options.clone()).await.unwrap().is_clear());
    fs::write(dir.join("a.txt"), "hidden\n").unwrap();
    assert_eq!(git(&dir, &["status", "--porcelain"]), "", "git does not tell");
    let found = repository.inspect_with(options.clone()).await.unwrap();
    assert_eq!(names(&found.blockers), ["hidden_changes"]);
    assert!(found.refusals()[0].to_string().contains("`a.txt` ("), "{:?}", found.refusals());

    git(&dir, &["update-index", "--skip-worktree", "c.txt"]);
    fs::remove_file(dir.join("c.txt")).unwrap();
    fs::remove_file(dir.join("b.txt")).unwrap();
    let found = repository.inspect_with(options).await.unwrap();
    assert_eq!(names(&found.blockers), ["hidden_changes", "sparse"]);
    assert!(found.refusals()[0].to_string().contains("`a.txt`, `b.txt` ("), "{found:?}");
}

#[tokio::test]
async fn conflicts_and_a_split_index_are_told_apart_from_changes() {
    let world = World::new();
    let dir = world.work();
    git(&dir, &["checkout", "-q", "-b", "side"]);
    world.commit("a.txt", "side\n");
    git(&dir, &["checkout", "-q", "main"]);
    world.commit("a.txt", "main\n");
    assert!(!crate::fixture::command(&dir, &["merge", "side"]).status().unwrap().success());
    let options = InspectOptions::default().allow_no_upstream();
    let repository = GitRepository::open(&dir).unwrap();
    let found = repository.inspect_with(options.clone()).await.unwrap();
    assert_eq!(names(&found.blockers), ["operation_in_progress", "unmerged"]);
    git(&dir, &["merge", "--abort"]);
    git(&dir, &["update-index", "--split-index"]);
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    let found = repository.inspect_with(options).await.unwrap();
    assert_eq!(names(&found.blockers), ["dirty", "split_index"]);
}

#[tokio::test]
async fn submodules_are_looked_into() {
    let world = World::new();
    let dir = world.work();
    let origin = world.origin();
    git(&dir, &["submodule", "--quiet", "add", origin.to_str().unwrap(), "sub"]);
    git(&dir, &["commit", "-qm", "submodule"]);
    // gix takes this for an inactive one, and would not look.
    git(&dir, &["config", "--unset", "submodule.sub.active"]);
    git(&dir, &["config", "submodule.active", "."]);
    let options = InspectOptions::default().allow_no_upstream();
    let repository = GitRepository::open(&dir).unwrap();
    let found = repository.inspect_with(options.clone()).await.unwrap();
    assert!(found.is_clear(), "{found:?}");
    fs::write(dir.join("sub/new"), "untracked\n").unwrap();
    let differs = async || {
        let found = repository.inspect_with(options.clone()).await.unwrap();
        assert_eq!(names(&found.blockers), ["submodules"]);
        let allowed = repository.inspect_with(options.clone().allow_submodules()).await.unwrap();
        assert!(allowed.is_clear(), "{allowed:?}");
    };
    differs().await;
    fs::remove_file(dir.join("sub/new")).unwrap();
    fs::write(dir.join("sub/a.txt"), "changed\n").unwrap();
    differs().await;
    git(&dir.join("sub"), &["commit", "-qam", "another commit"]);
    differs().await;
    // Not there at all is as it should be; something else in its place is not.
    git(&dir, &["submodule", "--quiet", "deinit", "-f", "sub"]);
    git(&dir, &["config", "submodule.active", "."]);
    assert!(repository.inspect_with(options.clone()).await.unwrap().is_clear());
    fs::write(dir.join("sub/own"), "mine\n").unwrap();
    differs().await;
}

#[tokio::test]
async fn histories_with_nothing_in_common_are_named_so() {
    let world = World::new();
    let dir = world.dir.path().join("clone");
    git(world.dir.path(), &["clone", "-q", "origin.git", "clone"]);
    git(&dir, &["checkout", "-q", "--orphan", "other"]);
    git(&dir, &["commit", "-qm", "from nothing"]);
    git(&dir, &["branch", "-q", "-M", "other", "main"]);
    git(&dir, &["branch", "-q", "--set-upstream-to", "origin/main", "main"]);
    let found = GitRepository::open(&dir).unwrap().inspect().await.unwrap();
    assert_eq!(names(&found.blockers), ["unrelated"], "{found:?}");
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
