//! Linked work trees: added and taken away, and nothing lost on either way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ops_core::Outcome;
use ops_core::crash::{CrashTest, State};
use ops_git::{
    Blocker, CheckoutOptions, ErrorKind, GitRepository, HeadPosition, RemoveWorktreeOptions,
};

use super::arena::{Arena, contents, run_and_back, shell, snapshot, tidy, whole};
use super::crash::killed;
use crate::fixture::git;
use crate::killed::assert_covers;

const OLD: &str = "a=1 d/b=1 k=1";
const NEW: &str = "a=2 d/e/c=3 k=1 l@=a x*=1 s%=1";

/// What git has of linked work trees.
fn list(repo: &Path) -> String {
    git(repo, &["worktree", "list", "--porcelain"])
}

fn sound(repo: &Path) {
    git(repo, &["fsck", "--strict", "--no-dangling", "--connectivity-only"]);
    assert_eq!(git(repo, &["worktree", "prune", "-n", "-v"]), "");
    tidy(repo);
}

#[tokio::test]
async fn one_is_added_as_git_adds_it() {
    let arena = Arena::new(OLD, NEW, "git tag v2 new; echo mine > u");
    let (repo, theirs) = (arena.copy("ours"), arena.copy("theirs"));
    let repository = GitRepository::open(&repo).unwrap();
    let before = (whole(&repo), list(&repo), snapshot(&repo.join(".git/refs")));
    for (folder, version) in [("linked/one", "new"), ("two", "v2"), ("empty", "old~0")] {
        // The beginning of a commit, since a revision is no name here.
        let version = if version == "old~0" { &git(&repo, &["rev-parse", "old"]) } else { version };
        let (a, b) = (arena.path("a").join(folder), arena.path("b").join(folder));
        if folder == "empty" {
            fs::create_dir_all(&a).unwrap();
        }
        let plan = repository.plan_add_worktree(&a, version, CheckoutOptions::default()).await;
        let plan = plan.unwrap();
        println!("{plan}");
        run_and_back(&arena, &repository, plan.clone()).await;
        assert_eq!(a.exists(), folder == "empty", "{folder}");
        assert_eq!(arena.path("a").exists(), folder != "linked/one");
        if folder == "linked/one" {
            assert_eq!((whole(&repo), list(&repo), snapshot(&repo.join(".git/refs"))), before);
            assert!(!repo.join(".git/worktrees").exists());
        }
        let report = repository.execute(plan, &arena.cx()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Completed);
        git(&theirs, &["worktree", "add", "-q", b.to_str().unwrap(), version]);
        assert_eq!(contents(&a), contents(&b), "{folder}");
        for args in [&["status", "--porcelain=v2", "--branch"][..], &["ls-files", "--stage"]] {
            assert_eq!(git(&a, args), git(&b, args), "{folder}");
        }
        sound(&repo);
    }
    let ours = list(&repo).replace("/ours", "/theirs").replace("/a/", "/b/");
    assert_eq!(ours, list(&theirs));

    let all = repository.worktrees().await.unwrap();
    let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["empty", "one", "two"]);
    let branch = HeadPosition::Branch { branch: "new".parse().unwrap() };
    assert_eq!((all[1].head.as_ref(), all[1].missing), (Some(&branch), false));
    assert_eq!(all[1].path, arena.path("a/linked/one").canonicalize().unwrap());
    // It is a work tree like any other.
    let there = GitRepository::open(arena.path("a/two")).unwrap();
    there.safe_checkout(&arena.cx(), &git(&repo, &["rev-parse", "old"])).await.unwrap();
    assert_eq!(git(&arena.path("a/two"), &["status", "--porcelain"]), "");
    sound(&repo);
}

#[tokio::test]
async fn what_is_against_adding_one_is_told_at_once() {
    let arena = Arena::new(OLD, NEW, "");
    let repo = arena.copy("ours");
    let repository = GitRepository::open(&repo).unwrap();
    let full = arena.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "mine").unwrap();
    let before = (whole(&repo), list(&repo));
    for (folder, version, says) in [
        (full.clone(), "old", &["is there already", "branch `old` is checked out"][..]),
        (repo.join(".git/inside"), "new", &["lies in the repository itself"]),
        (full.join("mine"), "new", &["is there already"]),
    ] {
        let error = repository
            .plan_add_worktree(&folder, version, CheckoutOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        for part in says {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    // It appears after the plan was made.
    let late = arena.path("late");
    let options = CheckoutOptions::default();
    let plan = repository.plan_add_worktree(&late, "new", options.clone()).await.unwrap();
    fs::create_dir(&late).unwrap();
    fs::write(late.join("mine"), "mine").unwrap();
    let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert_eq!(contents(&late).len(), 1);
    assert_eq!((whole(&repo), list(&repo)), before);

    // One that git knows and whose folder is gone.
    let gone = arena.path("gone");
    git(&repo, &["worktree", "add", "-q", gone.to_str().unwrap(), "new"]);
    fs::remove_dir_all(&gone).unwrap();
    let options = CheckoutOptions::default().detach();
    let error = repository.plan_add_worktree(&gone, "new", options).await.unwrap_err();
    assert!(error.to_string().contains("git worktree prune"), "{error}");
    assert!(repository.worktrees().await.unwrap()[0].missing);
}

/// A repository with a linked work tree on `new`.
fn linked(arena: &Arena, name: &str, script: &str) -> (PathBuf, PathBuf) {
    let repo = arena.copy(name);
    let folder = arena.path(&format!("{name}-linked"));
    git(&repo, &["worktree", "add", "-q", folder.to_str().unwrap(), "new"]);
    shell(&folder, "echo i > $(git rev-parse --git-common-dir)/info/exclude");
    shell(&folder, script);
    (repo, folder.canonicalize().unwrap())
}

#[tokio::test]
async fn a_clean_one_is_taken_away_and_comes_back_to_the_byte() {
    let arena = Arena::new(OLD, NEW, "");
    let (repo, folder) = linked(&arena, "ours", "");
    let repository = GitRepository::open(&repo).unwrap();
    let before = (snapshot(&folder), list(&repo), whole(&repo));
    let options = RemoveWorktreeOptions::default();
    let plan = repository.plan_remove_worktree(&folder, options).await.unwrap();
    assert_eq!(plan.facts["sha_before"], git(&repo, &["rev-parse", "new"]));
    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!((snapshot(&folder), list(&repo), whole(&repo)), before);
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    repository.execute(plan, &arena.cx()).await.unwrap();
    assert!(!folder.exists() && !repo.join(".git/worktrees").exists());
    assert!(!repo.join(".git/ops-git").exists());
    assert_eq!(list(&repo).matches("worktree ").count(), 1);
    assert_eq!(git(&repo, &["branch", "--list", "new"]), "new");
    sound(&repo);
    let error = repository.remove_worktree(&arena.cx(), &folder).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("it has none at all"), "{error}");
}

#[tokio::test]
async fn changes_are_in_the_way_or_kept() {
    let arena = Arena::new(OLD, NEW, "");
    let script =
        "echo x >> a; rm k; echo s > staged; git add staged; mkdir u; echo u > u/u; echo p > i";
    let (repo, folder) = linked(&arena, "ours", script);
    let repository = GitRepository::open(&repo).unwrap();
    let before = (snapshot(&folder), list(&repo));
    let error = repository.remove_worktree(&arena.cx(), &folder).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    for part in [
        "local changes would be lost: `a`, `k`",
        "staged changes would be lost: `staged`",
        "untracked files are in the way: `u/u`",
        "ignored files are in the way: `i`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!((snapshot(&folder), list(&repo)), before);

    let keep = RemoveWorktreeOptions::default().keep_changes();
    let plan = repository.plan_remove_worktree(&folder, keep).await.unwrap();
    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!((snapshot(&folder), list(&repo)), before);
    let report = repository.execute(plan, &arena.cx()).await.unwrap();
    assert!(!folder.exists());
    let lost = repo.join(".git/ops-git/lost").join(report.id.to_string());
    assert_eq!(snapshot(&lost.join("ours-linked")).len(), before.0.len());
    for (path, content) in [("a", "2\nx\n"), ("u/u", "u\n"), ("i", "p\n"), ("staged", "s\n")] {
        assert_eq!(fs::read_to_string(lost.join("ours-linked").join(path)).unwrap(), content);
    }
    assert!(lost.join("ours-linked.index").exists());
    let saved = report.notes.values().any(|note| note.to_string().contains("ops-git/lost"));
    assert!(saved, "the report names it: {report:?}");
    sound(&repo);
}

#[tokio::test]
async fn ignored_files_go_only_if_that_is_asked_for() {
    let arena = Arena::new(OLD, NEW, "");
    let (repo, folder) = linked(&arena, "ours", "echo precious > i");
    let repository = GitRepository::open(&repo).unwrap();
    let error = repository.remove_worktree(&arena.cx(), &folder).await.unwrap_err();
    assert_eq!(error.reasons().len(), 1, "{error}");
    let options = RemoveWorktreeOptions::default().discard_ignored();
    let plan = repository.plan_remove_worktree(&folder, options).await.unwrap();
    assert!(format!("{plan}").contains("with its ignored files"), "{plan}");
    let error = repository.execute(plan.clone(), &arena.cx()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "nobody approved of it: {error}");
    let cx = ops_core::Context::builder(arena.path("state"))
        .environment(ops_core::Environment::Development)
        .approver(ops_core::ApproveDigest::new(plan.digest(), "a test"))
        .build();
    repository.execute(plan, &cx).await.unwrap();
    assert!(!folder.exists() && !repo.join(".git/ops-git/lost").exists());
    sound(&repo);
}

#[tokio::test]
async fn what_else_is_against_taking_one_away() {
    let arena = Arena::new(OLD, NEW, "");
    let cases = [
        ("locked", "git worktree lock --reason backup $PWD", "is locked: backup"),
        ("busy", "git bisect start", "a bisect is in progress"),
        ("index", "echo theirs > $(git rev-parse --git-dir)/index.lock", "index.lock"),
        (
            "commit",
            "git checkout -q --detach; git commit -q --allow-empty -m only",
            "which no branch and no tag leads to",
        ),
        ("submodule", "git init -q s; echo x > s/x", "a submodule is in the way: `s`"),
        (
            "nested",
            "git init -q n; echo x > n/x",
            "folders with untracked content are in the way: `n`",
        ),
    ];
    for (name, script, says) in cases {
        let (repo, folder) = linked(&arena, name, script);
        let repository = GitRepository::open(&repo).unwrap();
        let before = (snapshot(&folder), list(&repo));
        let error = repository.remove_worktree(&arena.cx(), &folder).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{name}");
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert_eq!((snapshot(&folder), list(&repo)), before, "{name}");
        let there = GitRepository::open(&folder).unwrap();
        let error = there.remove_worktree(&arena.cx(), &folder).await.unwrap_err();
        assert!(error.to_string().contains("was opened there"), "{name}: {error}");
    }

    // What changes after the plan was made.
    let (repo, folder) = linked(&arena, "late", "");
    let repository = GitRepository::open(&repo).unwrap();
    let options = RemoveWorktreeOptions::default();
    let plan = repository.plan_remove_worktree(&folder, options).await.unwrap();
    fs::write(folder.join("late"), "late").unwrap();
    let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.join("late")).unwrap(), "late");
    let found = repository.inspect_checkout("new", CheckoutOptions::default()).await.unwrap();
    assert!(found.iter().any(|blocker| matches!(blocker, Blocker::CheckedOut { .. })), "{found:?}");
}

fn crashes(arena: &Arena, what: &'static str, with: Option<&'static str>) -> CrashTest {
    let start = arena.copy("template");
    if let Some(script) = with {
        shell(&start, "git worktree add -q ../linked new; echo i > .git/info/exclude");
        shell(&arena.path("linked"), script);
    }
    let from = arena.dir.path().to_owned();
    killed(start, what).setup(move |dir| {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(from.join("template"));
        assert!(copy.arg(dir.join("work")).status().unwrap().success());
        if with.is_some() {
            let mut copy = Command::new("cp");
            assert!(copy.arg("-a").arg(from.join("linked")).arg(dir).status().unwrap().success());
            // Each names the other by its whole path.
            let admin = dir.join("work/.git/worktrees/linked");
            let link = dir.join("linked/.git");
            fs::write(&link, format!("gitdir: {}\n", admin.display())).unwrap();
            fs::write(admin.join("gitdir"), format!("{}\n", link.display())).unwrap();
        }
        Ok(())
    })
}

/// Whether the linked work tree at a path is there whole, or not at all.
fn there(dir: &Path, folder: &str, status: &str) -> Result<bool, String> {
    let (work, folder) = (dir.join("work"), dir.join(folder));
    sound(&work);
    let listed = list(&work).contains(&format!("worktree {}\n", folder.display()));
    let beside: Vec<_> = folder
        .parent()
        .unwrap()
        .read_dir()
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("ops-git"))
        .collect();
    if !beside.is_empty() {
        return Err(format!("left beside: {beside:?}"));
    }
    match (listed, folder.exists()) {
        (false, false) if !work.join(".git/worktrees").exists() => Ok(false),
        (true, true) if git(&folder, &["status", "--porcelain"]) == status => {
            let locked = work.join(".git/worktrees/linked/locked").exists();
            if locked { Err("it is still locked".into()) } else { Ok(true) }
        }
        found => Err(format!("between: {found:?}, {}", list(&work))),
    }
}

#[test]
fn killed_at_every_place_while_one_is_added() {
    let arena = Arena::new(OLD, NEW, "");
    for (what, every) in [("worktree-add", 1), ("worktree-add-fail", 4)] {
        let fails = what.ends_with("fail");
        let test = crashes(&arena, what, None).every(every).check(|dir| {
            let new = there(dir, "new/linked", "")?;
            if !new && dir.join("new").exists() {
                return Err("the folder above it is left".into());
            }
            Ok(if new { State::New } else { State::Old })
        });
        let test = if fails { test.operation_may_fail() } else { test };
        let summary = test.run().unwrap_or_else(|e| panic!("{what}: {e}"));
        println!("{what}: {summary}");
        assert!(summary.old > 0 && (summary.new > 0) != fails, "{what}: {summary}");
        let places = [
            "git-worktree-drafted",
            "git-worktree-registered",
            "git-worktree-folder-made",
            "git-worktree-linked",
            "git-worktree-unlinked",
            "git-worktree-unmade",
            "git-worktree-forgotten",
        ];
        assert_covers(&summary, if fails { &places[6..] } else { &places });
        fs::remove_dir_all(arena.path("template")).unwrap();
    }
}

#[test]
fn killed_at_every_place_while_one_is_taken_away() {
    let arena = Arena::new(OLD, NEW, "");
    let summary = crashes(&arena, "worktree-remove", Some(":"))
        .recovery_every(3)
        .check(|dir| Ok(if there(dir, "linked", "")? { State::Old } else { State::New }))
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert_covers(
        &summary,
        &[
            "git-worktree-marked",
            "git-worktree-aside",
            "git-worktree-aside-back",
            "git-worktree-removed",
            "git-worktree-forgotten",
        ],
    );
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn killed_while_one_with_changes_is_kept() {
    let arena = Arena::new(OLD, NEW, "");
    let status = "M a\n?? u";
    let summary = crashes(&arena, "worktree-keep", Some("echo x >> a; echo u > u"))
        .check(move |dir| {
            if there(dir, "linked", status)? {
                return Ok(State::Old);
            }
            let lost = dir.join("work/.git/ops-git/lost").read_dir().unwrap().next().unwrap();
            let lost = lost.unwrap().path().join("linked");
            let read = |name: &str| fs::read_to_string(lost.join(name)).unwrap();
            assert_eq!((read("a"), read("u")), ("2\nx\n".to_owned(), "u\n".to_owned()));
            Ok(State::New)
        })
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{summary}");
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}
