//! How each step is looked at before anything starts, and how it is done.

use ops_core::{CommitId, Refusal, StepContext, StepError};

use super::{GitStep, bounded, folders_made};
use crate::branch;
use crate::error::Error;
use crate::export;
use crate::linked;
use crate::merge::{self, MergeCommit};
use crate::recovery_ref;
use crate::repository::{GitRepository, open_git_dir};
use crate::tag;
use crate::worktree::{self, Switch};

pub(super) async fn check(
    step: &GitStep,
    env: &GitRepository,
    cx: &StepContext,
) -> Result<Vec<Refusal>, StepError> {
    match step {
        GitStep::MoveBranch { branch, old, .. } => {
            let (branch, old) = (branch.clone(), old.clone());
            Ok(env.blocking(move |repo| branch::check(repo, &branch, old.as_ref())).await?)
        }
        GitStep::Export { folder, .. } => export::check(&folder.to_path(), cx),
        GitStep::Tag { tag } => {
            let tag = tag.clone();
            Ok(env.blocking(move |repo| tag::check(repo, &tag)).await?)
        }
        GitStep::InspectWorktree { merge, .. } => against(step, merge.as_deref(), env, cx).await,
        GitStep::AddWorktree { .. } => match step.added(env) {
            Some(added) => Ok(env.blocking(move |repo| added.check(repo)).await?),
            None => Ok(Vec::new()),
        },
        GitStep::RemoveWorktree { .. } => match step.removal(env) {
            Some(removal) => looked(env, cx, move || removal.check()).await,
            None => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

pub(super) async fn run(
    step: &GitStep,
    env: &GitRepository,
    cx: &StepContext,
) -> Result<(), StepError> {
    match step.clone() {
        GitStep::MoveBranch { branch, old, new } => {
            let (env, in_step) = (env.clone(), cx.clone());
            let before = old.clone();
            cx.blocking(move |_| {
                branch::run(&env.handle()?, &branch, old.as_ref(), &new, &in_step)
            })
            .await?;
            verified(cx, "before", before).await
        }
        GitStep::KeepTip { branch, commit } => {
            let (env, in_step) = (env.clone(), cx.clone());
            cx.blocking(move |_| recovery_ref::run(&env.handle()?, &branch, &commit, &in_step))
                .await
        }
        GitStep::PointHead { from, to } => {
            let (env, id) = (env.clone(), cx.operation());
            cx.blocking(move |_| branch::point_head(&env.handle()?, &from, &to, id)).await
        }
        GitStep::VerifyBranch { branch, commit } => {
            let (env, at) = (env.clone(), commit.clone());
            cx.blocking(move |_| branch::verify(&env.handle()?, &branch, &at)).await?;
            verified(cx, "after", Some(commit)).await
        }
        GitStep::WriteMerge { merge } => {
            let (env, id) = (env.clone(), cx.operation());
            bounded(cx, move || merge::write(&env.handle()?, &merge, id)).await
        }
        GitStep::Tag { tag } => {
            let (env, in_step, commit) = (env.clone(), cx.clone(), tag.commit.clone());
            verified(cx, "before", Some(commit.clone())).await?;
            cx.blocking(move |_| {
                let repo = env.handle()?;
                tag::run(&repo, &tag, &in_step)?;
                tag::verify(&repo, &tag)
            })
            .await?;
            verified(cx, "after", Some(commit)).await
        }
        GitStep::ReleaseTag { name } => {
            let (env, id) = (env.clone(), cx.operation());
            cx.blocking(move |_| tag::release(&env.handle()?, &name, id)).await
        }
        GitStep::ReleaseTip { branch } => {
            let (env, id) = (env.clone(), cx.operation());
            cx.blocking(move |_| branch::release(&env.handle()?, &branch, id)).await
        }
        GitStep::Export { commit, folder } => {
            verified(cx, "before", Some(commit.clone())).await?;
            export::run(env, commit.clone(), &folder.to_path(), cx).await?;
            verified(cx, "after", Some(commit)).await
        }
        GitStep::InspectWorktree { old, .. } => {
            // Everything else was looked at before anything started, and will be again by the
            // switch, before it moves anything.
            step.on_worktree(cx, |repo, switch, _| worktree::expect_head(repo, switch)).await?;
            verified(cx, "before", old).await
        }
        GitStep::SwitchWorktree { .. } => {
            let env = env.clone();
            let run = move |repo: &gix::Repository, switch: &Switch, cx: &StepContext| {
                worktree::run(repo, switch, cx, env.memo())
            };
            step.on_worktree(cx, run).await
        }
        GitStep::VerifyWorktree { new, .. } => {
            step.on_worktree(cx, worktree::verify).await?;
            verified(cx, "after", Some(new)).await
        }
        GitStep::AddWorktree { folder, name, .. } => {
            let Some(added) = step.added(env) else { return Ok(()) };
            // Known again when it is undone: what was there before stays.
            let made = async { Ok(linked::levels(&folder.to_path())?) };
            cx.observe(&folders_made(&name), made).await?;
            let id = cx.operation();
            let env = env.clone();
            cx.blocking(move |_| {
                added.run(&env.handle()?, id)?;
                added.verify()
            })
            .await
        }
        GitStep::ReleaseAddedWorktree { name } => {
            let (common_dir, id) = (env.common_dir().to_owned(), cx.operation());
            cx.blocking(move |_| linked::release_added(&common_dir, &name, id)).await
        }
        GitStep::RemoveWorktree { .. } => {
            let Some(removal) = step.removal(env) else { return Ok(()) };
            let id = cx.operation();
            bounded(cx, move || removal.run(id)).await
        }
        GitStep::ReleaseRemovedWorktree { .. } => {
            let Some(removal) = step.removal(env) else { return Ok(()) };
            let id = cx.operation();
            let saved = bounded(cx, move || removal.release(id)).await?;
            if !saved.is_empty() {
                cx.observe("saved files", async { Ok(saved) }).await?;
            }
            Ok(())
        }
        GitStep::ReleaseWorktree { .. } => {
            env.memo().forget();
            step.on_worktree(cx, worktree::release).await
        }
    }
}

/// Everything against a switch, with the commit of the merge in memory where one is to be made.
async fn against(
    step: &GitStep,
    merge: Option<&MergeCommit>,
    env: &GitRepository,
    cx: &StepContext,
) -> Result<Vec<Refusal>, StepError> {
    let (at, switch) =
        step.switch().ok_or_else(|| StepError::permanent("the step is about no work tree"))?;
    let (at, merge, this) = (at.to_path(), merge.cloned(), env.clone());
    looked(env, cx, move || {
        let repo = open_git_dir(&at)?;
        match merge {
            Some(merge) => worktree::check(&merge::in_memory(&repo, &merge)?, &switch, this.memo()),
            None => worktree::check(&repo, &switch, this.memo()),
        }
    })
    .await
}

/// Looks before anything has begun: nobody waits for that work when it is given up, so it is given
/// up with its future, and with the context.
async fn looked(
    env: &GitRepository,
    cx: &StepContext,
    look: impl FnOnce() -> Result<Vec<Refusal>, Error> + Send + 'static,
) -> Result<Vec<Refusal>, StepError> {
    Ok(env.blocking_until(cx.context().cancellation(), move |_| look()).await?)
}

/// Notes for the report which commit was found. An operation may verify several, so each has a key
/// of its own.
async fn verified(cx: &StepContext, when: &str, sha: Option<CommitId>) -> Result<(), StepError> {
    let which = sha.as_ref().map_or_else(|| "none".to_owned(), |sha| sha.version().to_string());
    cx.observe(&format!("sha verified {when}: {which}"), async { Ok(sha) }).await?;
    Ok(())
}
