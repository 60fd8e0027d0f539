//! Merges, pulls and rollbacks of the branch that the work tree is on.

use std::fs;
use std::path::Path;

use ops_core::Outcome;
use ops_git::{ErrorKind, FastForward, GitRepository, MergeOptions, PullOptions, PullPolicy};

use super::arena::{
    Arena, Ours, carried_out, contents, merged_by_git, run_and_back, same_for_git, shell, tidy,
    whole,
};
use crate::fixture::git;

const BASE: &str = "a=1 b=1 d/x=1 gone=1 k=1";
const OLD: &str = "a=2 b=1 d/x=1 gone=1 k=1";
const NEW: &str = "a=1 b*=1 d=1 n/m=3 k=1 new=1";

fn log(repo: &Path, of: &str) -> String {
    git(repo, &["log", "-g", "-1", "--format=%H %gs", of])
}

#[tokio::test]
async fn a_merge_moves_branch_index_and_work_tree() {
    let arena = Arena::forked(BASE, OLD, NEW, "echo mine > u; echo local >> k");
    let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
    let repository = GitRepository::open(&a).unwrap();
    let (old, new) = (git(&a, &["rev-parse", "old"]), git(&a, &["rev-parse", "new"]));
    let before = whole(&a);
    let plan =
        repository.plan_merge(&arena.at_gits_time(), "new", MergeOptions::default()).await.unwrap();
    assert_eq!(whole(&a), before, "planning moved something");
    println!("{plan}");
    for (fact, value) in [
        ("merge", "commit"),
        ("sha_before", old.as_str()),
        ("files_new", "3"),
        ("files_changed", "1"),
        ("files_removed", "2"),
        ("work_tree", a.to_str().unwrap()),
    ] {
        assert_eq!(plan.facts[fact], value, "{fact}");
    }
    let names: Vec<_> = plan.steps().map(|step| step.name.as_str()).collect();
    let expected = [
        "inspect_worktree",
        "write_merge",
        "switch_worktree",
        "verify_worktree",
        "release_worktree",
    ];
    assert_eq!(names, expected);

    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!(whole(&a), before);
    tidy(&a);
    let after = plan.facts["sha_after"].clone();
    let stale = plan.clone();
    let report = repository.execute(plan, &arena.cx()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    for sha in [&old, &after] {
        assert!(report.notes.values().any(|note| note.to_string().contains(sha)), "{report:?}");
    }
    merged_by_git(&b, "new").unwrap();
    same_for_git(&a, &b, "merge");
    assert_eq!(
        git(&a, &["log", "-1", "--format=%P %s"]),
        format!("{old} {new} Merge branch 'new' into old")
    );
    let entry = format!("{after} ops-git: operation {}", report.id);
    assert_eq!((log(&a, "old"), log(&a, "HEAD")), (entry.clone(), entry));
    assert_eq!(git(&a, &["rev-parse", "old@{0}~1", "HEAD@{0}~1"]), format!("{old}\n{old}"));
    tidy(&a);

    let now = whole(&a);
    let error = repository.execute(stale, &arena.cx()).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    let report = repository.safe_merge(&arena.cx(), "new").await.unwrap();
    assert_eq!(report.facts["result"], "already up to date");
    assert_eq!(whole(&a), now);
}

#[tokio::test]
async fn a_fast_forward_moves_them_too_and_keeps_what_is_staged() {
    let script = "echo staged > s; git add s; echo local >> k; git pack-refs --all";
    let arena = Arena::forked(BASE, BASE, NEW, script);
    shell(
        &arena.path("start"),
        "git branch -qf new $(git commit-tree -p old -m new new^{tree}); git pack-refs --all",
    );
    let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
    let repository = GitRepository::open(&a).unwrap();
    let plan = |fast_forward| {
        let options = MergeOptions::default().fast_forward(fast_forward);
        let (repository, cx) = (repository.clone(), arena.at_gits_time());
        async move { repository.plan_merge(&cx, "new", options).await }
    };
    // A merge commit would leave out what is staged, so git wants nothing staged.
    let before = whole(&a);
    let error = plan(FastForward::Never).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("staged changes would be lost: `s`"), "{error}");
    let only = plan(FastForward::Only).await.unwrap();
    assert_eq!(only.facts["merge"], "fast_forward");
    run_and_back(&arena, &repository, only.clone()).await;
    assert_eq!(whole(&a), before);
    assert!(matches!(carried_out(&arena, &repository, Ok(only)).await, Ours::Done));
    merged_by_git(&b, "new").unwrap();
    same_for_git(&a, &b, "fast-forward");
    assert_eq!(git(&a, &["rev-parse", "old"]), git(&a, &["rev-parse", "new"]));
    tidy(&a);
}

#[tokio::test]
async fn conflicts_and_obstacles_are_told_before_anything_moves() {
    let arena = Arena::forked("a=1 b=1 c=1", "a=2 b=2 c=1", "a=3 b=3 c=1", "");
    let repo = arena.copy("conflict");
    let before = whole(&repo);
    let repository = GitRepository::open(&repo).unwrap();
    let error = repository.safe_merge(&arena.cx(), "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.reasons().len(), 2, "{error}");
    assert_eq!(whole(&repo), before);
    assert_eq!(
        git(&repo, &["count-objects", "-v"]),
        git(&arena.path("start"), &["count-objects", "-v"])
    );

    let script = "echo x >> a; echo x > n; echo x > i; echo i > .git/info/exclude";
    let arena = Arena::forked("a=1 b=1", "a=1 b=2", "a=3 b=1 n=1 i=1", script);
    let repo = arena.copy("obstacles");
    let before = whole(&repo);
    let repository = GitRepository::open(&repo).unwrap();
    let error = repository.safe_merge(&arena.cx(), "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    for part in [
        "local changes would be lost: `a`",
        "untracked files are in the way: `n`",
        "ignored files are in the way: `i`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(whole(&repo), before);

    // What is ignored may go if that is allowed; it is saved.
    shell(&repo, "git checkout -q a; rm n");
    let options = MergeOptions::default().overwrite_ignored();
    let plan = repository.plan_merge(&arena.cx(), "new", options).await.unwrap();
    let report = repository.execute(plan, &arena.cx()).await.unwrap();
    let saved = repo.join(".git/ops-git/lost").join(report.id.to_string()).join("i");
    assert_eq!(fs::read_to_string(saved).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(repo.join("i")).unwrap(), "1\n");
}

#[tokio::test]
async fn what_appears_after_the_plan_is_never_overwritten() {
    let arena = Arena::forked("a=1 b=1", "a=1 b=2", "a=3 b=1 n=1", "");
    for (name, script) in [
        ("change", "echo x >> a"),
        ("untracked", "echo x > n"),
        ("staged", "echo x > s; git add s"),
        ("moved", "git commit -q --allow-empty -m other"),
        ("switched", "git checkout -q base"),
    ] {
        let repo = arena.copy(name);
        let repository = GitRepository::open(&repo).unwrap();
        let cx = arena.cx();
        let plan = repository.plan_merge(&cx, "new", MergeOptions::default()).await.unwrap();
        shell(&repo, script);
        let before = whole(&repo);
        let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{name}: {outcome:?}");
        assert_eq!(whole(&repo), before, "{name}");
        tidy(&repo);
    }
}

/// An origin and a clone of it on `main`; the arena's `new` is what upstream gets next.
fn cloned(arena: &Arena) -> GitRepository {
    shell(
        arena.dir.path(),
        "git -C start branch -q main old; git -C start checkout -q main\n\
         git clone -q start work; git -C work config user.name Ops\n\
         git -C work config user.email ops@example.org",
    );
    GitRepository::open(arena.path("work")).unwrap()
}

#[tokio::test]
async fn a_pull_moves_the_work_tree_along() {
    let arena = Arena::forked(BASE, BASE, NEW, "");
    let repository = cloned(&arena);
    let work = arena.path("work");
    shell(&work, "echo mine > u; echo local >> k");
    shell(
        &arena.path("start"),
        "git commit -qm n --allow-empty; git checkout -q new -- b; git commit -qm next",
    );
    let before = whole(&work);
    let cx = arena.cx();
    let plan = repository.plan_pull(&cx, PullOptions::default()).await.unwrap();
    assert_eq!((plan.facts["commits"].as_str(), plan.facts["files_changed"].as_str()), ("2", "1"));
    run_and_back(&arena, &repository, plan).await;
    // The remote-tracking ref stays: that is fetched.
    let same =
        |one: &super::arena::Whole, other: &super::arena::Whole| one.files() == other.files();
    assert!(same(&whole(&work), &before));
    let report = repository.safe_pull(&cx).await.unwrap();
    assert_eq!(report.facts["sha_after"], git(&arena.path("start"), &["rev-parse", "main"]));
    assert_eq!(
        git(&work, &["status", "--porcelain", "--branch"]),
        "## main...origin/main\n M k\n?? u"
    );
    assert_eq!(contents(&work)[Path::new("b")], contents(&arena.path("start"))[Path::new("b")]);
    tidy(&work);
    assert_eq!(repository.safe_pull(&cx).await.unwrap().facts["result"], "already up to date");

    // What upstream changes is changed here: refused, and nothing moved.
    shell(&arena.path("start"), "echo upstream > k; git commit -qam k");
    let before = whole(&work);
    let error = repository.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("local changes would be lost: `k`"), "{error}");
    assert!(same(&whole(&work), &before));
    assert_eq!(git(&work, &["rev-parse", "main"]), report.facts["sha_after"]);
}

#[tokio::test]
async fn a_pull_merges_if_it_is_asked_to() {
    let arena = Arena::forked(BASE, BASE, NEW, "");
    let repository = cloned(&arena);
    let (work, start, cx) = (arena.path("work"), arena.path("start"), arena.cx());
    shell(&work, "echo ours > a; git commit -qam ours; echo mine > u");
    shell(&start, "echo theirs > b; git commit -qam theirs");
    let ours = git(&work, &["rev-parse", "main"]);
    let error = repository.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("has diverged"), "{error}");

    let options = || PullOptions::default().merge(MergeOptions::default());
    assert_eq!(options().policy, PullPolicy::Merge);
    let plan = repository.plan_pull(&cx, options()).await.unwrap();
    assert_eq!((plan.operation.as_str(), plan.facts["merge"].as_str()), ("pull", "commit"));
    assert_eq!(
        (plan.facts["commits"].as_str(), plan.facts["commits_not_upstream"].as_str()),
        ("1", "1")
    );
    repository.execute(plan, &cx).await.unwrap();
    let theirs = git(&start, &["rev-parse", "main"]);
    assert_eq!(
        git(&work, &["log", "-1", "--format=%P %s"]),
        format!("{ours} {theirs} Merge remote-tracking branch 'origin/main'")
    );
    assert_eq!(git(&work, &["status", "--porcelain"]), "?? u");
    assert_eq!(fs::read_to_string(work.join("b")).unwrap(), "theirs\n");
    tidy(&work);

    // A conflict, then an upstream that was rewritten: merged is neither.
    shell(&work, "echo ours > k; git commit -qam ours2");
    shell(&start, "echo theirs > k; git commit -qam theirs2");
    let head = git(&work, &["rev-parse", "main"]);
    let error = repository.plan_pull(&cx, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    shell(&work, "git reset -q --hard origin/main");
    assert_ne!(git(&work, &["rev-parse", "main"]), head);
    shell(&start, "git reset -q --hard HEAD~1; echo other > k; git commit -qam other");
    let error = repository.plan_pull(&cx, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("was rewritten upstream"), "{error}");
}

#[tokio::test]
async fn the_first_pull_fills_an_empty_work_tree() {
    let arena = Arena::forked(BASE, BASE, NEW, "");
    let work = arena.path("work");
    shell(
        arena.dir.path(),
        "git init -q -b old work; git -C work remote add origin $PWD/start; echo mine > work/u\n\
         git -C work config branch.old.remote origin; git -C work config branch.old.merge refs/heads/old",
    );
    let before = contents(&work);
    let repository = GitRepository::open(&work).unwrap();
    let plan = repository.plan_pull(&arena.cx(), PullOptions::default()).await.unwrap();
    run_and_back(&arena, &repository, plan).await;
    assert_eq!(contents(&work), before);
    assert!(!work.join(".git/index").exists() && !work.join(".git/refs/heads/old").exists());
    repository.safe_pull(&arena.cx()).await.unwrap();
    assert_eq!(git(&work, &["status", "--porcelain", "--branch"]), "## old...origin/old\n?? u");
    tidy(&work);
}

#[tokio::test]
async fn a_branch_of_another_work_tree_is_refused_with_its_path() {
    let arena = Arena::forked(BASE, OLD, NEW, "");
    let repo = arena.copy("main");
    let linked = arena.path("linked");
    git(&repo, &["worktree", "add", "-q", linked.to_str().unwrap(), "base"]);
    let repository = GitRepository::open(&repo).unwrap();
    let base = || MergeOptions::default().branch("base".parse().unwrap());
    let error = repository.plan_merge(&arena.cx(), "new", base()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    assert!(
        text.contains(linked.to_str().unwrap()) && text.contains("open the repository there"),
        "{text}"
    );

    // There it goes, and the first work tree is left alone.
    let before = whole(&repo).files().clone();
    let there = GitRepository::open(&linked).unwrap();
    there.safe_merge(&arena.cx(), "new").await.unwrap();
    assert_eq!(git(&linked, &["status", "--porcelain", "--branch"]), "## base");
    assert_eq!(git(&repo, &["rev-parse", "base"]), git(&repo, &["rev-parse", "new"]));
    assert_eq!(*whole(&repo).files(), before);

    // One that is being rebased there belongs to that work tree as well.
    let script = "git checkout -q -b topic base~1; echo x > x; git add x; git commit -qm x\n\
                  GIT_SEQUENCE_EDITOR='sed -i 1ibreak' git rebase -q -i HEAD~1";
    shell(&linked, script);
    let topic = MergeOptions::default().branch("topic".parse().unwrap());
    let error = repository.plan_merge(&arena.cx(), "new", topic).await.unwrap_err();
    assert!(error.to_string().contains(linked.to_str().unwrap()), "{error}");

    // A branch that nobody has checked out only moves; one that somebody takes meanwhile does not.
    git(&repo, &["branch", "free", "base~1"]);
    let free = || MergeOptions::default().branch("free".parse().unwrap());
    let plan = repository.plan_merge(&arena.cx(), "new", free()).await.unwrap();
    shell(&linked, "git rebase --abort; git checkout -q free");
    let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    assert!(format!("{outcome:?}").contains(linked.to_str().unwrap()), "{outcome:?}");
    tidy(&repo);
}

#[tokio::test]
async fn a_rollback_takes_the_work_tree_back() {
    let arena = Arena::forked(BASE, OLD, NEW, "echo local >> k; echo mine > u");
    let repo = arena.copy("ours");
    let (old, base) = (git(&repo, &["rev-parse", "old"]), git(&repo, &["rev-parse", "base"]));
    let repository = GitRepository::open(&repo).unwrap();
    let plan = repository.plan_rollback(&arena.cx(), &base, None).await.unwrap();
    let tag = plan.facts["recovery_tag"].clone();
    assert_eq!((&plan.facts["sha_before"], &plan.facts["sha_after"]), (&old, &base));
    let before = whole(&repo);
    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!(whole(&repo), before);
    let report = repository.execute(plan, &arena.cx()).await.unwrap();
    assert_eq!(git(&repo, &["rev-parse", "old", &tag]), format!("{base}\n{old}"));
    assert_eq!(git(&repo, &["status", "--porcelain", "--branch"]), "## old\n M k\n?? u");
    assert_eq!(fs::read_to_string(repo.join("a")).unwrap(), "1\n");
    for sha in [&old, &base] {
        assert!(report.notes.values().any(|note| note.to_string().contains(sha)), "{report:?}");
    }
    tidy(&repo);
}
