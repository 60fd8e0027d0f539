//! Merges, tags and rollbacks as operations: done, undone, and refused when the world has moved.

use std::fs;

use ops_core::{Outcome, Plan};
use ops_git::{ErrorKind, FastForward, GitRepository, GitStep, Identity, MergeOptions, TagOptions};

use crate::by_git::merge_by_git;
use crate::fixture::{World, command, git};
use crate::history::objects;

/// A mirror with `main` and `topic`, which both changed another line of a file.
pub async fn forked(world: &World) -> GitRepository {
    let lines = |at: usize, to: &str| -> String {
        (0..20).map(|n| if n == at { format!("{to}\n") } else { format!("line {n}\n") }).collect()
    };
    world.commit("d/file.txt", &lines(99, ""));
    git(&world.work(), &["checkout", "-q", "-b", "topic"]);
    world.commit("d/file.txt", &lines(3, "theirs"));
    world.commit("new.txt", "new\n");
    git(&world.work(), &["push", "-q", "origin", "topic"]);
    git(&world.work(), &["checkout", "-q", "main"]);
    world.commit("d/file.txt", &lines(15, "ours"));
    world.push();
    let mirror = world.mirror();
    mirror.safe_pull(&world.cx()).await.unwrap();
    git(&world.mirror_path(), &["config", "user.name", "Ops"]);
    git(&world.mirror_path(), &["config", "user.email", "ops@example.org"]);
    mirror
}

/// A change that always fails, so that what was done before it is undone.
fn failing(plan: Plan, mirror: &GitRepository) -> Plan {
    let step = GitStep::VerifyBranch {
        branch: "no-such-branch".parse().unwrap(),
        commit: "0".repeat(40).parse().unwrap(),
    };
    plan.change(mirror, &step).unwrap()
}

#[tokio::test]
async fn a_merge_is_gits_merge() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let (ours, theirs) = (world.mirrored("main"), world.mirrored("origin/topic"));
    let before = objects(&world.mirror_path());
    let plan = mirror.plan_merge(&cx, "origin/topic", MergeOptions::default()).await.unwrap();
    assert_eq!(objects(&world.mirror_path()), before, "planning writes nothing");
    assert_eq!(world.mirrored("main"), ours, "planning moves nothing");
    let new = plan.facts["sha_after"].clone();
    assert_eq!((&plan.facts["sha_before"], plan.facts["merge"].as_str()), (&ours, "commit"));
    println!("{plan}");

    let stale = plan.clone();
    let report = mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(world.mirrored("main"), new);
    let show = |format: &str| {
        git(&world.mirror_path(), &["log", "-1", &format!("--format={format}"), "main"])
    };
    assert_eq!(show("%P"), format!("{ours} {theirs}"));
    assert_eq!(show("%s"), "Merge remote-tracking branch 'origin/topic'");
    assert_eq!(show("%an <%ae> %cn"), "Ops <ops@example.org> Ops");
    let by_git = merge_by_git(&world.mirror_path(), &ours, &theirs).unwrap();
    assert_eq!(show("%T"), by_git.tree);
    let log = git(&world.mirror_path(), &["log", "-g", "-1", "--format=%gs", "main"]);
    assert_eq!(log, format!("ops-git: operation {}", report.id));
    world.mirror_is_sound();

    let error = mirror.execute(stale, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    let report = mirror.safe_merge(&cx, "origin/topic").await.unwrap();
    assert_eq!(report.facts["result"], "already up to date");
}

#[tokio::test]
async fn the_same_plan_makes_the_same_commit() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let ours = world.mirrored("main");
    let plan = mirror.plan_merge(&cx, "origin/topic", MergeOptions::default()).await.unwrap();
    let undone = failing(plan.clone(), &mirror);
    let error = mirror.execute(undone, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("main"), ours);
    world.mirror_is_sound();
    let new = plan.facts["sha_after"].clone();
    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(world.mirrored("main"), new);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_fast_forward_is_allowed_asked_for_or_refused() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let git_dir = world.mirror_path();
    git(&git_dir, &["branch", "old", "origin/topic~2"]);
    let old = world.mirrored("old");
    let onto = || MergeOptions::default().branch("old".parse().unwrap());
    let plan = mirror.plan_merge(&cx, "origin/topic", onto()).await.unwrap();
    assert_eq!(plan.facts["merge"], "fast_forward");
    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(world.mirrored("old"), world.mirrored("origin/topic"));

    git(&git_dir, &["branch", "-f", "old", &old]);
    let never = onto().fast_forward(FastForward::Never).message("Release 2\n\nWith a body.");
    let plan = mirror.plan_merge(&cx, "origin/topic", never).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    let show = |format: &str| git(&git_dir, &["log", "-1", &format!("--format={format}"), "old"]);
    assert_eq!(show("%P"), format!("{old} {}", world.mirrored("origin/topic")));
    assert_eq!(show("%T"), git(&git_dir, &["rev-parse", "origin/topic^{tree}"]));
    assert_eq!(show("%B"), "Release 2\n\nWith a body.");

    let only = MergeOptions::default().fast_forward(FastForward::Only);
    let error = mirror.plan_merge(&cx, "origin/topic", only).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    world.mirror_is_sound();
}

#[tokio::test]
async fn conflicts_come_all_at_once_and_nothing_moves() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    git(&world.work(), &["checkout", "-q", "topic"]);
    world.commit("a.txt", "theirs\n");
    world.commit("both.txt", "theirs\n");
    git(&world.work(), &["push", "-q", "origin", "topic"]);
    git(&world.work(), &["checkout", "-q", "main"]);
    world.commit("a.txt", "ours\n");
    world.commit("both.txt", "ours\n");
    world.push();
    mirror.safe_pull(&cx).await.unwrap();
    let (ours, before) = (world.mirrored("main"), objects(&world.mirror_path()));
    let error = mirror.safe_merge(&cx, "origin/topic").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let reasons: Vec<_> = error.reasons().iter().map(|refusal| refusal.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "`a.txt` is changed on both sides",
            "`both.txt` is added on both sides with different content"
        ]
    );
    assert_eq!((world.mirrored("main"), objects(&world.mirror_path())), (ours, before));
    world.mirror_is_sound();
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    git(&world.mirror_path(), &["config", "--unset", "user.email"]);
    let error = mirror.safe_merge(&cx, "origin/topic").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoIdentity);
    let committer = Identity::new("Given", "given@example.org").unwrap();
    let given = MergeOptions::default().committer(committer);
    let plan = mirror.plan_merge(&cx, "origin/topic", given).await.unwrap();
    assert!(!plan.is_empty());
    let none = MergeOptions::default().branch("none".parse().unwrap());
    let error = mirror.plan_merge(&cx, "origin/topic", none).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = mirror.safe_merge(&cx, "no-such-thing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_branch_that_moved_since_is_left_alone() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let plan = mirror.plan_merge(&cx, "origin/topic", MergeOptions::default()).await.unwrap();
    let elsewhere = world.mirrored("main~1");
    git(&world.mirror_path(), &["update-ref", "refs/heads/main", &elsewhere]);
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert_eq!(world.mirrored("main"), elsewhere);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_merge_that_a_new_setting_forbids_is_not_made() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let plan = mirror.plan_merge(&cx, "origin/topic", MergeOptions::default()).await.unwrap();
    let ours = world.mirrored("main");
    git(&world.mirror_path(), &["config", "merge.default", "binary"]);
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("main"), ours);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_merge_program_runs_only_if_it_is_allowed() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let git_dir = world.mirror_path();
    fs::create_dir_all(git_dir.join("info")).unwrap();
    fs::write(git_dir.join("info/attributes"), "*.txt merge=both\n").unwrap();
    git(&git_dir, &["config", "merge.both.driver", "echo %P >> %A; cat %B >> %A"]);
    let error = mirror.safe_merge(&cx, "origin/topic").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("external driver `both`"), "{error}");

    let (ours, theirs) = (world.mirrored("main"), world.mirrored("origin/topic"));
    let allowed = || MergeOptions::default().allow_driver("both");
    let plan = mirror.plan_merge(&cx, "origin/topic", allowed()).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    let by_git = merge_by_git(&git_dir, &ours, &theirs).unwrap();
    assert_eq!(world.mirrored("main^{tree}"), by_git.tree);
    let merged = git(&git_dir, &["show", "main:d/file.txt"]);
    assert!(merged.contains("d/file.txt\nline 0\n"), "{merged}");
    world.mirror_is_sound();

    // It finds a conflict, or fails.
    git(&git_dir, &["update-ref", "refs/heads/main", &ours]);
    git(&git_dir, &["config", "merge.both.driver", "exit 1"]);
    let error = mirror.plan_merge(&cx, "origin/topic", allowed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("`d/file.txt` is changed on both sides"), "{error}");
    git(&git_dir, &["config", "merge.both.driver", "echo broken >&2; exit 129"]);
    let error = mirror.plan_merge(&cx, "origin/topic", allowed()).await.unwrap_err();
    assert!(error.to_string().contains("code 129: broken"), "{error}");
    assert_eq!(world.mirrored("main"), ours);
}

#[tokio::test]
async fn tags_are_made_and_taken_away_again() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let git_dir = world.mirror_path();
    let says = || TagOptions::default().message("The first release");
    let plan = mirror.plan_tag(&cx, "v2", "main", says()).await.unwrap();
    let error = mirror.execute(failing(plan.clone(), &mirror), &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(world.mirrored("refs/tags/v2"), "");
    world.mirror_is_sound();

    let report = mirror.execute(plan.clone(), &cx).await.unwrap();
    for when in ["before", "after"] {
        let note = format!("sha verified {when}: {}", &world.mirrored("main")[..7]);
        assert!(report.notes.keys().any(|key| key.contains(&note)), "{report:?}");
    }
    assert_eq!(git(&git_dir, &["cat-file", "-t", "v2"]), "tag");
    assert_eq!(world.mirrored("v2^{commit}"), world.mirrored("main"));
    let text =
        git(&git_dir, &["for-each-ref", "--format=%(taggername) %(contents)", "refs/tags/v2"]);
    assert_eq!(text, "Ops The first release");
    let plan = mirror.plan_tag(&cx, "light", "main", TagOptions::default()).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!(git(&git_dir, &["cat-file", "-t", "light"]), "commit");
    let tags = mirror.versions(1).await.unwrap().remove(0).tags;
    assert_eq!(tags, ["light", "v2"]);
    world.mirror_is_sound();

    // A tag that exists is never moved.
    let error =
        mirror.plan_tag(&cx, "v2", "origin/topic", TagOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let plan = mirror.plan_tag(&cx, "v3", "main", TagOptions::default()).await.unwrap();
    git(&git_dir, &["tag", "v3", "main~1"]);
    let error = mirror.execute(plan, &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert_eq!(world.mirrored("v3"), world.mirrored("main~1"));
    for bad in ["", "a b", "-x", "a..b"] {
        let error = mirror.plan_tag(&cx, bad, "main", TagOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_rollback_keeps_the_newer_version_under_a_tag() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let (old, new) = (world.mirrored("main"), world.mirrored("main~1"));
    let plan = mirror.plan_rollback(&cx, &new, None).await.unwrap();
    let tag = plan.facts["recovery_tag"].clone();
    assert!(tag.starts_with("recovery/") && tag.ends_with(&old[..7]), "{tag}");

    let error = mirror.execute(failing(plan.clone(), &mirror), &cx).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!((world.mirrored("main"), world.mirrored(&tag)), (old.clone(), String::new()));
    world.mirror_is_sound();

    mirror.execute(plan, &cx).await.unwrap();
    assert_eq!((world.mirrored("main"), world.mirrored(&tag)), (new.clone(), old.clone()));
    world.mirror_is_sound();
    assert!(mirror.plan_rollback(&cx, &new, None).await.unwrap().is_empty());
    let error = mirror.plan_rollback(&cx, "origin/topic", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);

    // And forth again, to what the tag kept.
    mirror.safe_merge(&cx, &tag).await.unwrap();
    assert_eq!(world.mirrored("main"), old);
}

#[tokio::test]
async fn history_that_cannot_be_read_has_an_error_of_its_own() {
    let world = World::new();
    let (mirror, cx) = (forked(&world).await, world.cx());
    let git_dir = world.mirror_path();
    let first = world.mirrored("main~1");
    for pack in fs::read_dir(git_dir.join("objects/pack")).unwrap().flatten() {
        let pack = pack.path();
        if pack.extension().is_some_and(|extension| extension == "pack") {
            fs::rename(&pack, git_dir.join("unpack.me")).unwrap();
            fs::remove_file(pack.with_extension("idx")).unwrap();
            let input = fs::File::open(git_dir.join("unpack.me")).unwrap();
            let mut unpack = command(&git_dir, &["unpack-objects", "-q"]);
            assert!(unpack.stdin(input).status().unwrap().success());
        }
    }
    fs::remove_file(git_dir.join("objects").join(&first[..2]).join(&first[2..])).unwrap();
    for error in [
        mirror.versions(10).await.unwrap_err(),
        mirror.ancestors("main", 10).await.unwrap_err(),
        mirror.safe_merge(&cx, "origin/topic").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::HistoryUnavailable, "{error}");
    }
}
