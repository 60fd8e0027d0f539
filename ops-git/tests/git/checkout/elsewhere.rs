//! Linked work trees, and a branch that moves along with its work tree, as in a pull.

use std::fs;

use ops_core::{CommitId, Plan};
use ops_git::{Blocker, CheckoutOptions, GitRepository, GitStep, HeadPosition, PathBytes};

use super::arena::{Arena, Ours, contents, failing, ours, tidy, whole};
use crate::fixture::git;

#[tokio::test]
async fn a_linked_work_tree_is_switched_and_its_main_one_left_alone() {
    let arena = Arena::new("a=1 b=1", "a=2 c=1", "git branch third old");
    let main = arena.copy("main");
    let linked = arena.path("linked");
    git(&main, &["worktree", "add", "-q", linked.to_str().unwrap(), "third"]);
    let before = whole(&main);

    let repository = GitRepository::open(&linked).unwrap();
    let found = repository.inspect_checkout("old", CheckoutOptions::default()).await.unwrap();
    assert!(matches!(&found[..], [Blocker::CheckedOut { .. }]), "{found:?}");
    let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
    // Whoever recovers may hold the main work tree: the step says which one it is about.
    let undone = plan.clone().change(&repository, &failing()).unwrap();
    GitRepository::open(&main).unwrap().execute(undone, &arena.cx()).await.unwrap_err();
    assert_eq!(git(&linked, &["status", "--porcelain", "--branch"]), "## third");
    repository.execute(plan, &arena.cx()).await.unwrap();
    assert_eq!(git(&linked, &["status", "--porcelain", "--branch"]), "## new");
    assert_eq!(fs::read_to_string(linked.join("a")).unwrap(), "2\n");
    assert!(!linked.join("b").exists() && linked.join("c").exists());
    assert_eq!(whole(&main), before);
    tidy(&main);
}

#[tokio::test]
async fn a_branch_moves_along_with_its_work_tree() {
    let arena = Arena::new("a=1 b=1", "a=2 c=1", "echo mine > u");
    let repo = arena.copy("ours");
    let repository = GitRepository::open(&repo).unwrap();
    let commit = |name: &str| git(&repo, &["rev-parse", name]).parse::<CommitId>().unwrap();
    let (old, new) = (commit("old"), commit("new"));
    let head = HeadPosition::Branch { branch: "old".parse().unwrap() };
    let step = GitStep::SwitchWorktree {
        at: PathBytes::from(repository.git_dir()),
        old: Some(old.clone()),
        new: new.clone(),
        head_from: head.clone(),
        head_to: head.clone(),
        overwrite_ignored: false,
        whole_index: false,
    };
    let release = GitStep::ReleaseWorktree {
        at: PathBytes::from(repository.git_dir()),
        old: Some(old),
        new: new.clone(),
        head_from: head.clone(),
        head_to: head,
    };
    let before = whole(&repo);
    let plan = Plan::new("pull").change(&repository, &step).unwrap();
    let undone = plan.clone().change(&repository, &failing()).unwrap();
    repository.execute(undone, &arena.cx()).await.unwrap_err();
    assert_eq!(whole(&repo), before);
    tidy(&repo);

    // The same step twice is done once.
    let plan = plan.change(&repository, &step).unwrap().finisher(&repository, &release).unwrap();
    repository.execute(plan, &arena.cx()).await.unwrap();
    assert_eq!(git(&repo, &["status", "--porcelain", "--branch"]), "## old\n?? u");
    assert_eq!(commit("old"), new);
    assert_eq!(contents(&repo).len(), 3);
    tidy(&repo);
}

#[tokio::test]
async fn a_deep_tree_of_thousands_of_files_is_one_step() {
    let tree = |n: usize, m: usize| {
        (0..2000)
            .map(|i| format!("d{}/e{}/f{i}={}", i % 7, i % 31, if i % m == 0 { n } else { 0 }))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let arena = Arena::new(&tree(1, 1), &tree(2, 2), "");
    let repo = arena.copy("ours");
    let begun = std::time::Instant::now();
    assert!(matches!(ours(&arena, &repo, "new", CheckoutOptions::default()).await, Ours::Done));
    println!("2000 paths in {:?}", begun.elapsed());
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    let before = whole(&repo);
    super::arena::there_and_back(&arena, &repo, "old", CheckoutOptions::default()).await;
    assert_eq!(whole(&repo), before);
    tidy(&repo);
}
