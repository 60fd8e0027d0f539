//! The program that the crash test kills: pulls and exports in one
//! operation, or tags and merges in one, or pulls a
//! rewritten history, or recovers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use ops_core::{Context, Environment};
use ops_git::{
    CheckoutOptions, GitRepository, GitStep, MergeOptions, PullOptions, RemoveWorktreeOptions,
    Rewritten, TagOptions,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (dir, what) = (PathBuf::from(arguments.next().unwrap()), arguments.next().unwrap());
    // The journals lie elsewhere where the repository's disk is to be full.
    let (what, state) = match what.split_once("-state:") {
        Some((what, state)) => (what.to_owned(), PathBuf::from(state)),
        None => (what, dir.clone()),
    };
    let cx = Context::builder(state.join("state")).environment(Environment::Development).build();
    if let Some(what) = what.strip_prefix("worktree-") {
        return on_work_tree(&dir, what, &cx).await;
    }
    let mirror = GitRepository::open(dir.join("mirror.git")).unwrap();
    if what == "recover" {
        let recovery = mirror.recover(&cx).await.unwrap();
        assert!(recovery.running.is_empty());
        return;
    }
    if let Some(what) = what.strip_prefix("merge") {
        let merge = MergeOptions::default().message("Merge the topic");
        let merge = mirror.plan_merge(&cx, "origin/topic", merge).await.unwrap();
        let says = TagOptions::default().message("Before the merge");
        let tag = mirror.plan_tag(&cx, "before", "main", says).await.unwrap();
        let mut plan = tag.then(merge).named("merge");
        if what == "-fail" {
            let step = failing(&plan.facts["sha_after"]);
            plan = plan.change(&mirror, &step).unwrap();
        }
        mirror.execute(plan, &cx).await.unwrap();
        return;
    }
    if let Some(what) = what.strip_prefix("pull") {
        let options = PullOptions::default().rewritten(Rewritten::Follow);
        let mut plan = mirror.plan_pull(&cx, options).await.unwrap();
        if what == "-fail" {
            plan = plan.change(&mirror, &failing(&"0".repeat(40))).unwrap();
        }
        mirror.execute(plan, &cx).await.unwrap();
        return;
    }
    let pull = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    let new = pull.facts["sha_after"].clone();
    let export = mirror.plan_export(&new, dir.join("release")).await.unwrap();
    let mut plan = pull.then(export).named("update");
    if what == "fail" {
        plan = plan.change(&mirror, &failing(&new)).unwrap();
    }
    mirror.execute(plan, &cx).await.unwrap();
}

fn failing(commit: &str) -> GitStep {
    GitStep::VerifyBranch {
        branch: "no-such-branch".parse().unwrap(),
        commit: commit.parse().unwrap(),
    }
}

/// Checks `new` out in a work tree, with a failing end or without, or recovers.
async fn on_work_tree(dir: &Path, what: &str, cx: &Context) {
    let repository = GitRepository::open(dir.join("work")).unwrap();
    if what == "recover" {
        let recovery = repository.recover(cx).await.unwrap();
        assert!(recovery.running.is_empty());
        return;
    }
    let (verb, fails) = match what.strip_suffix("-fail") {
        Some(verb) => (verb, true),
        None => (what, false),
    };
    let mut plan = match verb {
        "checkout" => {
            let options = CheckoutOptions::default().overwrite_ignored();
            repository.plan_checkout("new", options).await.unwrap()
        }
        "merge" => {
            let options = MergeOptions::default().overwrite_ignored();
            repository.plan_merge(cx, "new", options).await.unwrap()
        }
        "add" => {
            let options = CheckoutOptions::default();
            repository.plan_add_worktree(dir.join("new/linked"), "new", options).await.unwrap()
        }
        "remove" => {
            let options = RemoveWorktreeOptions::default();
            repository.plan_remove_worktree(dir.join("linked"), options).await.unwrap()
        }
        "keep" => {
            let options = RemoveWorktreeOptions::default().keep_changes();
            repository.plan_remove_worktree(dir.join("linked"), options).await.unwrap()
        }
        "pull" => repository.plan_pull(cx, PullOptions::default()).await.unwrap(),
        other => panic!("no such verb: {other}"),
    };
    if fails {
        plan = plan.change(&repository, &failing(&"0".repeat(40))).unwrap();
    }
    repository.execute(plan, cx).await.unwrap();
}
