//! Steps that are run and undone by the engine: twice, half done, and in somebody else's way.

use std::fs;

use ops_core::{Outcome, Plan};
use ops_git::{ErrorKind, GitRepository, GitStep, PathBytes, PullOptions};

use crate::fixture::{World, git};

/// A change that always fails, so that what was done before it is undone.
fn failing() -> GitStep {
    GitStep::VerifyBranch {
        branch: "no-such-branch".parse().unwrap(),
        commit: "0".repeat(40).parse().unwrap(),
    }
}

async fn pulled(world: &World) -> GitRepository {
    let mirror = world.mirror();
    mirror.safe_pull(&world.cx()).await.unwrap();
    mirror
}

#[tokio::test]
async fn a_pull_that_fails_later_goes_back() {
    let world = World::new();
    let cx = world.cx();
    let mirror = world.mirror();
    // The branch is new.
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let plan = plan.change(&mirror, &failing()).unwrap();
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("refs/heads/main"), "");
    world.mirror_is_sound();

    // The branch moves.
    mirror.safe_pull(&cx).await.unwrap();
    let first = world.head();
    world.commit("a.txt", "two\n");
    world.push();
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let plan = plan.change(&mirror, &failing()).unwrap();
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("refs/heads/main"), first);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_branch_that_moved_since_the_plan_is_left_alone() {
    let world = World::new();
    let cx = world.cx();
    let mirror = pulled(&world).await;
    world.commit("a.txt", "two\n");
    world.push();
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let tree = git(&world.mirror_path(), &["rev-parse", "main^{tree}"]);
    let own = git(&world.mirror_path(), &["commit-tree", "-p", "main", "-m", "own", &tree]);
    git(&world.mirror_path(), &["update-ref", "refs/heads/main", &own]);
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&own), "{error}");
    assert_eq!(world.mirrored("refs/heads/main"), own);
    world.mirror_is_sound();
}

#[tokio::test]
async fn the_same_move_twice_in_one_plan_is_done_once_and_undone_once() {
    let world = World::new();
    let cx = world.cx();
    let mirror = pulled(&world).await;
    let first = world.head();
    let second = world.commit("a.txt", "two\n");
    world.push();
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let step = GitStep::MoveBranch {
        branch: "main".parse().unwrap(),
        old: Some(first.parse().unwrap()),
        new: second.parse().unwrap(),
    };
    let twice = plan.clone().change(&mirror, &step).unwrap();
    let undone = twice.clone().change(&mirror, &failing()).unwrap();
    let error = mirror.execute(undone, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("refs/heads/main"), first);
    world.mirror_is_sound();

    mirror.execute(twice, &cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), second);
    world.mirror_is_sound();
}

#[tokio::test]
async fn an_export_that_fails_later_is_taken_away_and_nothing_else() {
    let world = World::new();
    let cx = world.cx();
    let mirror = pulled(&world).await;
    let folder = world.dir.path().join("releases/one");
    let plan = mirror.plan_export("main", &folder).await.unwrap();
    let again = GitStep::Export {
        commit: world.head().parse().unwrap(),
        folder: PathBytes::from(folder.as_path()),
    };
    let plan = plan.change(&mirror, &again).unwrap();
    let undone = plan.clone().change(&mirror, &failing()).unwrap();
    let error = mirror.execute(undone, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 0);

    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("a.txt")).unwrap(), "one\n");
}

#[tokio::test]
async fn a_folder_that_appears_after_the_plan_stays_as_it_is() {
    let world = World::new();
    let cx = world.cx();
    let mirror = pulled(&world).await;
    let folder = world.dir.path().join("one");
    let plan = mirror.plan_export("main", &folder).await.unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("theirs"), "theirs").unwrap();
    let error = mirror.execute(plan.clone(), &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.join("theirs")).unwrap(), "theirs");
    fs::remove_dir_all(&folder).unwrap();

    // It appears while an earlier step of the same operation runs: the undo leaves it alone too.
    let other = world.dir.path().join("two");
    let both = Plan::new("both").then(plan).then(mirror.plan_export("main", &other).await.unwrap());
    mirror.execute(both, &cx).await.unwrap();
    assert!(folder.join("a.txt").exists() && other.join("a.txt").exists());
}

#[tokio::test]
async fn a_repository_is_locked_where_every_program_sees_it() {
    let world = World::new();
    let mirror = pulled(&world).await;
    let lock = ops_core::Resource::lock_path(&mirror).unwrap();
    assert_eq!(lock, world.mirror_path().canonicalize().unwrap().join("ops-git.lock"));
    let id = ops_core::Resource::id(&mirror).to_string();
    assert_eq!(id, format!("git:{}", world.mirror_path().canonicalize().unwrap().display()));
    let error = GitRepository::open(world.dir.path()).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Operation);
}

#[tokio::test]
async fn somebody_elses_lock_stays_and_the_branch_too() {
    let world = World::new();
    let cx = world.cx();
    let mirror = pulled(&world).await;
    let first = world.head();
    world.commit("a.txt", "two\n");
    world.push();
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let lock = world.mirror_path().join("refs/heads/main.lock");
    fs::write(&lock, format!("{}\n", "1".repeat(40))).unwrap();
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert!(lock.exists());
    assert_eq!(world.mirrored("refs/heads/main"), first);
    fs::remove_file(lock).unwrap();
    world.mirror_is_sound();
}
