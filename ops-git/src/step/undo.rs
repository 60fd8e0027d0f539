//! How each step is undone.

use std::path::Path;

use ops_core::{StepContext, StepError};

use super::{GitStep, folders_made};
use crate::branch;
use crate::error::Error;
use crate::export;
use crate::objects;
use crate::path_bytes::PathBytes;
use crate::presence;
use crate::recovery_ref;
use crate::repository::GitRepository;
use crate::tag;
use crate::worktree;

pub(super) async fn undo(
    step: &GitStep,
    env: &GitRepository,
    cx: &StepContext,
) -> Result<(), StepError> {
    match step.clone() {
        GitStep::MoveBranch { branch, old, new } => {
            let (env, in_step) = (env.clone(), cx.clone());
            cx.blocking(move |_| {
                branch::undo(&env.handle()?, &branch, old.as_ref(), &new, &in_step)
            })
            .await
        }
        GitStep::KeepTip { branch, .. } => {
            let (env, in_step) = (env.clone(), cx.clone());
            cx.blocking(move |_| recovery_ref::undo(&env.handle()?, &branch, &in_step)).await
        }
        GitStep::PointHead { from, to } => {
            let (env, id) = (env.clone(), cx.operation());
            cx.blocking(move |_| branch::point_back(&env.handle()?, &from, &to, id)).await
        }
        GitStep::Export { folder, .. } => export::undo(&folder.to_path(), cx).await,
        GitStep::WriteMerge { .. } => {
            let (env, id) = (env.clone(), cx.operation());
            cx.blocking(move |_| objects::clear(&env.handle()?, id)).await
        }
        GitStep::Tag { tag } => {
            let (env, in_step) = (env.clone(), cx.clone());
            cx.blocking(move |_| tag::undo(&env.handle()?, &tag, &in_step)).await
        }
        GitStep::AddWorktree { ref name, .. } => {
            let (Some(added), Some(made)) =
                (step.added(env), cx.noted::<Vec<PathBytes>>(&folders_made(name))?)
            else {
                return Ok(());
            };
            let id = cx.operation();
            cx.blocking(move |_| added.undo(&made, id)).await
        }
        GitStep::RemoveWorktree { .. } => {
            let Some(removal) = step.removal(env) else { return Ok(()) };
            let id = cx.operation();
            cx.blocking(move |_| removal.undo(id)).await
        }
        GitStep::SwitchWorktree { at, .. } if is_gone(&at.to_path(), env)? => Ok(()),
        GitStep::SwitchWorktree { .. } => {
            env.memo().forget();
            let saved = step.on_worktree(cx, worktree::undo).await?;
            if !saved.is_empty() {
                cx.observe("saved files", async { Ok(saved) }).await?;
            }
            Ok(())
        }
        GitStep::VerifyBranch { .. }
        | GitStep::ReleaseTip { .. }
        | GitStep::ReleaseTag { .. }
        | GitStep::InspectWorktree { .. }
        | GitStep::VerifyWorktree { .. }
        | GitStep::ReleaseAddedWorktree { .. }
        | GitStep::ReleaseRemovedWorktree { .. }
        | GitStep::ReleaseWorktree { .. } => Ok(()),
    }
}

/// Whether a linked work tree that the operation made is gone again. Whatever else is not there is
/// out of reach, and may be half switched.
fn is_gone(git_dir: &Path, env: &GitRepository) -> Result<bool, Error> {
    let linked = env.common_dir().join("worktrees");
    Ok(git_dir.parent() == Some(&linked)
        && presence::is_at(env.common_dir())?
        && !presence::is_at(git_dir)?)
}
