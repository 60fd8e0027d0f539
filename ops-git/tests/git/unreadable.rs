//! What cannot be read is not absent, and what is found done is made durable.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use ops_core::event::Event;
use ops_core::{Outcome, Resource as _};
use ops_git::{
    Blocker, CheckoutOptions, ErrorKind, GitRepository, GitStep, MergeOptions, PullOptions,
    RemoveWorktreeOptions, TagOptions,
};

use crate::checkout::arena::{Arena, failing, shell, tidy, whole};
use crate::fixture::{World, chain, git};
use crate::meddler::{circle, is_done, meddled};

/// A repository with a linked work tree on `new`, and the git directory of that.
fn linked(arena: &Arena, script: &str) -> (PathBuf, PathBuf, PathBuf) {
    let repo = arena.copy("ours");
    let folder = arena.path("linked");
    git(&repo, &["worktree", "add", "-q", folder.to_str().unwrap(), "new"]);
    shell(&folder, script);
    let admin = repo.join(".git/worktrees/linked");
    (repo, folder.canonicalize().unwrap(), admin)
}

#[tokio::test]
async fn a_work_tree_that_git_forgot_meanwhile_is_saved_and_not_removed() {
    for keep in [true, false] {
        let arena = Arena::new("a=1", "a=2", "");
        let script = if keep { "echo x >> a; echo u > u" } else { ":" };
        let (repo, folder, admin) = linked(&arena, script);
        let repository = GitRepository::open(&repo).unwrap();
        let mut options = RemoveWorktreeOptions::default();
        options.keep_changes = keep;
        let plan = repository.plan_remove_worktree(&folder, options).await.unwrap();
        let (there, was) = (repo.clone(), folder.clone());
        let cx = meddled(&arena.path("state"), move |event| {
            let Event::Committed { id } = event else { return };
            let aside = was.with_file_name(format!(".linked.ops-git-{id}"));
            fs::write(aside.join("late"), "late").unwrap();
            git(&there, &["worktree", "unlock", "linked"]);
            git(&there, &["worktree", "prune", "--expire", "now"]);
        });
        let report = repository.execute(plan, &cx).await.unwrap();
        assert_eq!(report.outcome, Outcome::Completed);
        assert!(!folder.exists() && !admin.exists());
        let lost = repo.join(".git/ops-git/lost").join(report.id.to_string()).join("linked");
        assert_eq!(fs::read_to_string(lost.join("late")).unwrap(), "late");
        if keep {
            assert_eq!(fs::read_to_string(lost.join("a")).unwrap(), "2\nx\n");
            assert_eq!(fs::read_to_string(lost.join("u")).unwrap(), "u\n");
        }
        assert!(report.notes.values().any(|note| note.to_string().contains("ops-git/lost")));
    }
}

#[tokio::test]
async fn a_work_tree_whose_mark_cannot_be_read_is_not_said_to_be_undone() {
    let arena = Arena::new("a=1", "a=2", "");
    let repo = arena.copy("ours");
    let folder = arena.path("linked");
    let repository = GitRepository::open(&repo).unwrap();
    let options = CheckoutOptions::default();
    let plan = repository.plan_add_worktree(&folder, "new", options).await.unwrap();
    let plan = plan.change(&repository, &failing()).unwrap();
    let mark = repo.join(".git/worktrees/linked/locked");
    let (at, kept) = (mark.clone(), arena.path("kept"));
    let cx = meddled(&arena.path("state"), move |event| {
        if is_done(event, "add_worktree") {
            fs::rename(&at, &kept).unwrap();
            fs::create_dir(&at).unwrap();
        }
    });
    let error = repository.execute(plan, &cx).await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert!(matches!(outcome, Outcome::NeedsPerson { .. }), "{outcome:?}");
    assert!(folder.join(".git").exists());
    fs::remove_dir(&mark).unwrap();
    fs::rename(arena.path("kept"), &mark).unwrap();
    repository.recover(&arena.cx()).await.unwrap();
    assert!(!folder.exists() && !repo.join(".git/worktrees").exists());
    tidy(&repo);
}

#[tokio::test]
async fn a_work_tree_of_which_the_branch_cannot_be_told_is_in_the_way() {
    let arena = Arena::new("a=1", "a=2", "");
    let (repo, _, admin) = linked(&arena, ":");
    let repository = GitRepository::open(&repo).unwrap();
    let against = async || {
        let found = repository.inspect_checkout("new", CheckoutOptions::default()).await.unwrap();
        found.iter().map(Blocker::name).collect::<Vec<_>>()
    };
    assert_eq!(against().await, ["checked_out"]);
    fs::write(admin.join("HEAD"), "rubbish\n").unwrap();
    assert_eq!(against().await, ["branch_unknown"]);
    // The branch is not moved under it, either.
    let options = MergeOptions::default().branch("new".parse().unwrap());
    let error = repository.plan_merge(&arena.cx(), "old", options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{}", chain(&error));
    assert!(error.to_string().contains("is on cannot be told"), "{error}");
    circle(&admin.join("HEAD"));
    assert_eq!(against().await, ["branch_unknown"]);

    // It is detached, and a rebase there comes back to the branch, or moves it on its way.
    fs::remove_file(admin.join("HEAD")).unwrap();
    fs::write(admin.join("HEAD"), format!("{}\n", git(&repo, &["rev-parse", "new"]))).unwrap();
    assert!(against().await.is_empty());
    fs::create_dir(admin.join("rebase-merge")).unwrap();
    let ids = format!("{0}\n{0}\n", git(&repo, &["rev-parse", "new"]));
    let all = format!("refs/heads/other\n{ids}refs/heads/new\n{ids}");
    fs::write(admin.join("rebase-merge/update-refs"), all).unwrap();
    assert_eq!(against().await, ["checked_out"]);
    fs::remove_file(admin.join("rebase-merge/update-refs")).unwrap();
    assert!(against().await.is_empty());
    circle(&admin.join("rebase-merge/head-name"));
    assert_eq!(against().await, ["branch_unknown"]);
}

#[tokio::test]
async fn an_inspection_that_cannot_read_everything_is_not_clear() {
    let world = World::new();
    git(world.dir.path(), &["clone", "-q", "origin.git", "clone"]);
    let dir = world.dir.path().join("clone");
    let clone = GitRepository::open(&dir).unwrap();
    assert!(clone.inspect().await.unwrap().is_clear());
    let tracking = dir.join(".git/refs/remotes/origin/main");
    fs::write(&tracking, format!("{}\n", "1".repeat(40))).unwrap();
    let error = clone.inspect().await.unwrap_err();
    assert!(error.to_string().contains("refs/remotes/origin/main"), "{}", chain(&error));
    fs::write(&tracking, "rubbish\n").unwrap();
    assert!(clone.inspect().await.is_err());
    fs::remove_file(&tracking).unwrap();
    assert!(clone.inspect().await.unwrap().is_clear(), "it was never fetched");
    // Nor is one where the folder of interrupted checkouts cannot be read.
    circle(&dir.join(".git/ops-git"));
    assert!(clone.inspect().await.unwrap_err().to_string().contains("cannot list"));
}

#[tokio::test]
async fn a_switch_that_is_out_of_reach_is_not_said_to_be_undone() {
    for in_the_way in [true, false] {
        let arena = Arena::new("a=1", "a=2", "");
        fs::create_dir(arena.path("disk")).unwrap();
        let repo = arena.copy("disk/ours");
        let before = whole(&repo);
        let repository = GitRepository::open(&repo).unwrap();
        let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
        let plan = plan.change(&repository, &failing()).unwrap();
        let (disk, away) = (arena.path("disk"), arena.path("away"));
        let cx = meddled(&arena.path("state"), move |event| {
            if is_done(event, "switch_worktree") {
                fs::rename(&disk, &away).unwrap();
                if in_the_way {
                    circle(&disk);
                }
            }
        });
        let error = repository.execute(plan, &cx).await.unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::NeedsPerson { .. }), "{in_the_way}: {outcome:?}");
        if in_the_way {
            fs::remove_file(arena.path("disk")).unwrap();
        }
        fs::rename(arena.path("away"), arena.path("disk")).unwrap();
        repository.recover(&arena.cx()).await.unwrap();
        assert_eq!(whole(&repo), before);
        tidy(&repo);
    }
}

#[test]
fn two_repositories_are_two_resources_whatever_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<_> = [&b"a\xff.git"[..], b"a\xfe.git", b"a.git"]
        .iter()
        .map(|name| {
            let path = dir.path().join(OsStr::from_bytes(name));
            fs::create_dir(&path).unwrap();
            git(&path, &["init", "-q", "--bare"]);
            GitRepository::open(&path).unwrap().id().to_string()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
    let text = dir.path().canonicalize().unwrap().join("a.git");
    assert_eq!(ids[2], format!("git:{}", text.display()));
}

#[tokio::test]
async fn attributes_that_cannot_be_read_are_not_left_out_of_a_merge() {
    let world = World::new();
    let mirror = crate::merge_steps::forked(&world).await;
    mirror.preview_merge("main", "origin/topic").await.unwrap();
    let attributes = world.mirror_path().join("info/attributes");
    let _ = fs::remove_file(&attributes);
    circle(&attributes);
    let error = mirror.preview_merge("main", "origin/topic").await.unwrap_err();
    assert!(error.to_string().contains("info/attributes"), "{}", chain(&error));
}

/// Makes the log of a ref something that cannot be made durable, and takes it away again.
fn spoil(logs: &std::path::Path, name: &str) {
    circle(&logs.join(name));
}

/// A mirror that has fetched a commit and not moved its branch there yet.
struct Behind {
    world: World,
    mirror: GitRepository,
    first: String,
    moving: GitStep,
    tag: GitStep,
}

impl Behind {
    async fn new() -> Self {
        let world = World::new();
        let mirror = world.mirror();
        mirror.safe_pull(&world.cx()).await.unwrap();
        let first = world.head();
        let second = world.commit("a.txt", "two\n");
        world.push();
        drop(mirror.plan_pull(&world.cx(), PullOptions::default()).await.unwrap());
        let plan_tag =
            mirror.plan_tag(&world.cx(), "v1", &first, TagOptions::default()).await.unwrap();
        let tag: GitStep = serde_json::from_value(plan_tag.changes[0].step.clone()).unwrap();
        let moving = GitStep::MoveBranch {
            branch: "main".parse().unwrap(),
            old: Some(first.parse().unwrap()),
            new: second.parse().unwrap(),
        };
        Self { world, mirror, first, moving, tag }
    }
}

#[tokio::test]
async fn an_effect_that_is_found_done_is_made_durable() {
    let Behind { world, mirror, first, moving, tag } = Behind::new().await;
    let steps = [
        ("move_branch", "refs/heads/main", moving),
        (
            "keep_tip",
            "refs/ops-git/recovery/main/ID",
            GitStep::KeepTip { branch: "main".parse().unwrap(), commit: first.parse().unwrap() },
        ),
        ("tag", "refs/tags/v1", tag),
    ];
    for (name, log, step) in steps {
        // The second one finds what the first one did, as after a kill.
        let plan = ops_core::Plan::new("twice").change(&mirror, &step).unwrap();
        let plan = plan.change(&mirror, &step).unwrap();
        let logs = world.mirror_path().join("logs");
        let cx = meddled(&world.dir.path().join("state"), move |event| match event {
            Event::StepDone { id, step, .. } if step.name == name => {
                spoil(&logs, &log.replace("ID", &id.to_string()));
            }
            Event::Aborting { id, .. } => {
                fs::remove_file(logs.join(log.replace("ID", &id.to_string()))).unwrap();
            }
            _ => {}
        });
        let error = mirror.execute(plan, &cx).await.unwrap_err();
        let report = error.report().unwrap();
        assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{name}: {report:?}");
        assert!(report.error.join(": ").contains("cannot make durable"), "{name}: {report:?}");
        assert_eq!(world.mirrored("refs/heads/main"), first, "{name}");
        world.mirror_is_sound();
    }
}

#[tokio::test]
async fn a_way_back_that_is_found_gone_is_made_durable() {
    let Behind { world, mirror, first, moving, tag } = Behind::new().await;
    for (name, step) in [("refs/heads/main", moving), ("refs/tags/v1", tag)] {
        let plan = ops_core::Plan::new("back").change(&mirror, &step).unwrap();
        let plan = plan.change(&mirror, &failing()).unwrap();
        let (path, old) = (world.mirror_path(), first.clone());
        let cx = meddled(&world.dir.path().join("state"), move |event| {
            if matches!(event, Event::Aborting { .. }) {
                // As if a way back had been killed right after its rename.
                match name {
                    "refs/heads/main" => git(&path, &["update-ref", name, &old]),
                    _ => git(&path, &["update-ref", "-d", name]),
                };
                spoil(&path.join("logs"), name);
            }
        });
        let error = mirror.execute(plan, &cx).await.unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::NeedsPerson { .. }), "{name}: {outcome:?}");
        fs::remove_file(world.mirror_path().join("logs").join(name)).unwrap();
        mirror.recover(&world.cx()).await.unwrap();
        assert_eq!(world.mirrored("refs/heads/main"), first);
        assert_eq!(world.mirrored("refs/tags/v1"), "");
        world.mirror_is_sound();
    }
}
