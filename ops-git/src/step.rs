//! The reversible steps of this crate.

use ops_core::{CommitId, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::branch;
use crate::export;
use crate::id::BranchName;
use crate::merge::{self, MergeCommit};
use crate::objects;
use crate::path_bytes::PathBytes;
use crate::repository::GitRepository;
use crate::tag::{self, TagName, Tagging};

/// One reversible step on a [`GitRepository`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum GitStep {
    /// Moves a branch, and keeps its old tip reachable until the operation has ended.
    MoveBranch {
        /// The branch.
        branch: BranchName,
        /// Where it is; `None` if it is new.
        old: Option<CommitId>,
        /// Where it goes.
        new: CommitId,
    },
    /// Points `HEAD` to another branch.
    PointHead {
        /// Where it points.
        from: BranchName,
        /// Where it is to point.
        to: BranchName,
    },
    /// Checks that a branch is at a commit whose tree can be read.
    VerifyBranch {
        /// The branch.
        branch: BranchName,
        /// Where it should be.
        commit: CommitId,
    },
    /// Merges in memory and writes what that makes: the merged files, trees and the commit.
    WriteMerge {
        /// The merge.
        merge: MergeCommit,
    },
    /// Makes a tag that does not exist.
    Tag {
        /// What is tagged, how.
        tag: Tagging,
    },
    /// Lets go of what proves that this operation made a tag.
    ReleaseTag {
        /// The tag.
        name: TagName,
    },
    /// Lets go of the old tip of a branch that this operation moved.
    ReleaseTip {
        /// The branch.
        branch: BranchName,
    },
    /// Writes the tree of a commit into a new folder.
    Export {
        /// The commit.
        commit: CommitId,
        /// The folder, absolute; it must not exist.
        folder: PathBytes,
    },
}

impl Step for GitStep {
    const FAMILY: &'static str = "git";
    type Env = GitRepository;

    fn name(&self) -> &'static str {
        match self {
            Self::MoveBranch { .. } => "move_branch",
            Self::PointHead { .. } => "point_head",
            Self::VerifyBranch { .. } => "verify_branch",
            Self::WriteMerge { .. } => "write_merge",
            Self::Tag { .. } => "tag",
            Self::ReleaseTag { .. } => "release_tag",
            Self::ReleaseTip { .. } => "release_tip",
            Self::Export { .. } => "export",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::MoveBranch { branch, old: Some(old), new } => Effect::changes(format!(
                "move branch `{branch}` from {} to {}",
                old.version(),
                new.version()
            )),
            Self::MoveBranch { branch, old: None, new } => {
                Effect::changes(format!("create branch `{branch}` at {}", new.version()))
            }
            Self::PointHead { from, to } => {
                Effect::changes(format!("point HEAD to branch `{to}` in place of `{from}`"))
            }
            Self::VerifyBranch { branch, commit } => {
                Effect::reads(format!("verify that branch `{branch}` is at {}", commit.version()))
            }
            Self::WriteMerge { merge } => Effect::retained(format!(
                "write merge commit {} of {} and {} into the object database",
                merge.commit.version(),
                merge.ours.version(),
                merge.theirs.version()
            )),
            Self::Tag { tag } => {
                Effect::changes(format!("tag {} as `{}`", tag.commit.version(), tag.name))
            }
            Self::ReleaseTag { name } => {
                Effect::changes(format!("let go of the record of tag `{name}`"))
            }
            Self::ReleaseTip { branch } => {
                Effect::changes(format!("let go of the old tip of branch `{branch}`"))
            }
            Self::Export { commit, folder } => Effect::changes(format!(
                "export {} into the new folder `{folder}`",
                commit.version()
            )),
        }
    }

    async fn check(
        &self,
        env: &GitRepository,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::MoveBranch { branch, old, .. } => {
                let (branch, old) = (branch.clone(), old.clone());
                Ok(env.blocking(move |repo| branch::check(repo, &branch, old.as_ref())).await?)
            }
            Self::Export { folder, .. } => Ok(export::check(&folder.to_path(), cx)),
            Self::Tag { tag } => {
                let tag = tag.clone();
                Ok(env.blocking(move |repo| tag::check(repo, &tag)).await?)
            }
            Self::PointHead { .. }
            | Self::VerifyBranch { .. }
            | Self::WriteMerge { .. }
            | Self::ReleaseTag { .. }
            | Self::ReleaseTip { .. } => Ok(Vec::new()),
        }
    }

    async fn run(&self, env: &GitRepository, cx: &StepContext) -> Result<(), StepError> {
        match self.clone() {
            Self::MoveBranch { branch, old, new } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| {
                    branch::run(&env.handle()?, &branch, old.as_ref(), &new, &in_step)
                })
                .await
            }
            Self::PointHead { from, to } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| branch::point_head(&env.handle()?, &from, &to, id)).await
            }
            Self::VerifyBranch { branch, commit } => {
                let env = env.clone();
                cx.blocking(move |_| branch::verify(&env.handle()?, &branch, &commit)).await
            }
            Self::WriteMerge { merge } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| merge::write(&env.handle()?, &merge, id)).await
            }
            Self::Tag { tag } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| tag::run(&env.handle()?, &tag, &in_step)).await
            }
            Self::ReleaseTag { name } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| tag::release(&env.handle()?, &name, id)).await
            }
            Self::ReleaseTip { branch } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| branch::release(&env.handle()?, &branch, id)).await
            }
            Self::Export { commit, folder } => {
                export::run(env, commit, &folder.to_path(), cx).await
            }
        }
    }

    async fn undo(&self, env: &GitRepository, cx: &StepContext) -> Result<(), StepError> {
        match self.clone() {
            Self::MoveBranch { branch, old, new } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| {
                    branch::undo(&env.handle()?, &branch, old.as_ref(), &new, &in_step)
                })
                .await
            }
            Self::PointHead { from, to } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| branch::point_back(&env.handle()?, &from, &to, id)).await
            }
            Self::Export { folder, .. } => export::undo(&folder.to_path(), cx).await,
            Self::WriteMerge { .. } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| objects::clear(&env.handle()?, id)).await
            }
            Self::Tag { tag } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| tag::undo(&env.handle()?, &tag, &in_step)).await
            }
            Self::VerifyBranch { .. } | Self::ReleaseTip { .. } | Self::ReleaseTag { .. } => Ok(()),
        }
    }
}
