//! Histories that were force-pushed.

use ops_core::Outcome;
use ops_git::{ErrorKind, GitRepository, PullOptions, Pulled, Rewritten};

use crate::fixture::{World, chain, git};

fn follow() -> PullOptions {
    PullOptions::default().rewritten(Rewritten::Follow)
}

/// A mirror whose upstream was rewritten: the old tip and the new one.
async fn rewritten(world: &World) -> (GitRepository, String, String) {
    let base = world.head();
    let old = world.commit("a.txt", "two\n");
    world.push();
    let mirror = world.mirror();
    mirror.safe_pull(&world.cx()).await.unwrap();
    git(&world.work(), &["reset", "-q", "--hard", &base]);
    let new = world.commit("a.txt", "another two\n");
    world.push();
    (mirror, old, new)
}

#[tokio::test]
async fn it_is_refused_until_it_is_to_be_followed_and_the_old_tip_is_kept() {
    let world = World::new();
    let cx = world.cx();
    let (mirror, old, new) = rewritten(&world).await;
    // Every time, although the ref that follows has moved after the first.
    for _ in 0..2 {
        let error = mirror.safe_pull(&cx).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
        assert!(error.to_string().contains("was rewritten upstream"), "{error}");
        assert!(error.to_string().contains("Rewritten::Follow"), "{error}");
        assert_eq!(world.mirrored("refs/heads/main"), old);
    }
    let plan = mirror.plan_pull(&cx, follow()).await.unwrap();
    let pulled = Pulled::in_plan(&plan).unwrap();
    assert!(pulled.rewritten && pulled.is_new());
    assert_eq!(pulled.before.unwrap().as_str(), old);
    assert_eq!(pulled.after.as_str(), new);
    assert!(plan.to_string().contains("refs/ops-git/recovery/main/<operation>"), "{plan}");

    let report = mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(world.mirrored("refs/heads/main"), new);
    assert_eq!(Pulled::in_report(&report).unwrap().after.as_str(), new);
    let kept = format!("refs/ops-git/recovery/main/{}", report.id);
    assert_eq!(
        git(&world.mirror_path(), &["for-each-ref", "refs/ops-git"]),
        format!("{old} commit\t{kept}")
    );
    git(&world.mirror_path(), &["reflog", "expire", "--expire=now", "--all"]);
    git(&world.mirror_path(), &["gc", "-q", "--prune=now"]);
    assert_eq!(world.mirrored(&format!("{kept}^{{commit}}")), old);
    git(&world.mirror_path(), &["fsck", "--strict"]);

    // What is no rewriting is pulled as ever.
    let next = world.commit("b.txt", "three\n");
    world.push();
    let plan = mirror.plan_pull(&cx, follow()).await.unwrap();
    assert!(!Pulled::in_plan(&plan).unwrap().rewritten);
    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), next);
}

#[tokio::test]
async fn one_that_only_went_back_is_followed_too() {
    let world = World::new();
    let back = world.head();
    let old = world.commit("a.txt", "two\n");
    world.push();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    git(&world.work(), &["reset", "-q", "--hard", &back]);
    world.push();
    let plan = mirror.plan_pull(&cx, follow()).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), back);
    let kept =
        git(&world.mirror_path(), &["for-each-ref", "--format=%(objectname)", "refs/ops-git"]);
    assert_eq!(kept, old);
}

#[tokio::test]
async fn commits_of_our_own_are_never_left() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let tree = git(&world.mirror_path(), &["rev-parse", "main^{tree}"]);
    let own = git(&world.mirror_path(), &["commit-tree", "-p", "main", "-m", "own", &tree]);
    git(&world.mirror_path(), &["update-ref", "refs/heads/main", &own]);
    world.commit("a.txt", "two\n");
    world.push();
    let error = mirror.plan_pull(&cx, follow()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged, "{}", chain(&error));
    assert!(error.to_string().contains("has diverged"), "{error}");
    assert_eq!(world.mirrored("refs/heads/main"), own);
}

#[tokio::test]
async fn a_later_failure_takes_the_branch_back_and_the_kept_tip_away() {
    let world = World::new();
    let cx = world.cx();
    let (mirror, old, _) = rewritten(&world).await;
    let plan = mirror.plan_pull(&cx, follow()).await.unwrap();
    let failing = ops_git::GitStep::VerifyBranch {
        branch: "none".parse().unwrap(),
        commit: old.parse().unwrap(),
    };
    mirror.execute(plan.change(&mirror, &failing).unwrap(), &cx).await.unwrap_err();
    assert_eq!(world.mirrored("refs/heads/main"), old);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_work_tree_on_the_branch_follows_too() {
    let world = World::new();
    let base = world.head();
    let old = world.commit("a.txt", "two\n");
    world.push();
    let site = world.dir.path().join("site");
    let (from, to) = (world.origin().display().to_string(), site.display().to_string());
    git(world.dir.path(), &["clone", "-q", &from, &to]);
    git(&world.work(), &["reset", "-q", "--hard", &base]);
    let new = world.commit("b.txt", "another\n");
    world.push();
    let repository = GitRepository::open(&site).unwrap();
    let cx = world.cx();
    assert_eq!(repository.safe_pull(&cx).await.unwrap_err().kind(), ErrorKind::Diverged);
    let plan = repository.plan_pull(&cx, follow()).await.unwrap();
    let report = repository.execute(plan, &cx).await.unwrap();
    assert_eq!(git(&site, &["rev-parse", "HEAD"]), new);
    assert_eq!(git(&site, &["status", "--porcelain"]), "");
    assert_eq!(std::fs::read_to_string(site.join("a.txt")).unwrap(), "one\n");
    let kept = format!("refs/ops-git/recovery/main/{}", report.id);
    assert_eq!(git(&site, &["rev-parse", &kept]), old);
}

#[tokio::test]
async fn a_repository_in_memory_follows_as_well() {
    use ops_git::{MemoryRepository, VersionControl as _};
    let dir = tempfile::tempdir().unwrap();
    let cx = ops_core::Context::builder(dir.path())
        .environment(ops_core::Environment::Development)
        .build();
    let app = MemoryRepository::new("app");
    let first = app.commit("First", [("a", "1")]);
    let second = app.commit("Second", [("a", "2")]);
    app.safe_pull(&cx).await.unwrap();
    app.force_upstream(&first).unwrap();
    assert_eq!(app.safe_pull(&cx).await.unwrap_err().kind(), ErrorKind::Diverged);
    let plan = app.plan_pull(&cx, follow()).await.unwrap();
    let pulled = Pulled::in_plan(&plan).unwrap();
    assert!(pulled.rewritten);
    assert_eq!((pulled.before, &pulled.after), (Some(second), &first));
    app.execute(plan, &cx).await.unwrap();
    assert_eq!(app.resolve("main").await.unwrap(), first);
}
