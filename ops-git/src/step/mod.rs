//! The reversible steps of this crate.

mod run;
mod undo;
mod words;

use ops_core::{CommitId, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::bound::Bound;
use crate::error::Error;
use crate::id::BranchName;
use crate::linked::{Added, Removal};
use crate::merge::MergeCommit;
use crate::path_bytes::PathBytes;
use crate::repository::{GitRepository, open_git_dir};
use crate::tag::{TagName, Tagging};
use crate::worktree::{HeadPosition, Switch};

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
    /// Keeps a commit that a branch is about to leave, for good, under
    /// `refs/ops-git/recovery/<branch>/<operation>`.
    KeepTip {
        /// The branch.
        branch: BranchName,
        /// The commit.
        commit: CommitId,
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
    /// Looks whether a work tree can become another commit's.
    InspectWorktree {
        /// The git directory of the work tree.
        at: PathBytes,
        /// The commit that it is at; `None` if its branch has none yet.
        old: Option<CommitId>,
        /// The commit that it goes to.
        new: CommitId,
        /// Where `HEAD` is.
        head_from: HeadPosition,
        /// Where `HEAD` goes; where it is, to move the branch that it is on.
        head_to: HeadPosition,
        /// Whether ignored files may be replaced.
        overwrite_ignored: bool,
        /// Whether the index must hold nothing but what the old commit has.
        #[serde(default, skip_serializing_if = "is_false")]
        whole_index: bool,
        /// The merge that makes the commit that it goes to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        merge: Option<Box<MergeCommit>>,
    },
    /// Makes a work tree, its index and `HEAD` another commit's.
    SwitchWorktree {
        /// The git directory of the work tree.
        at: PathBytes,
        /// The commit that it is at; `None` if its branch has none yet.
        old: Option<CommitId>,
        /// The commit that it goes to.
        new: CommitId,
        /// Where `HEAD` is.
        head_from: HeadPosition,
        /// Where `HEAD` goes; where it is, to move the branch that it is on.
        head_to: HeadPosition,
        /// Whether ignored files may be replaced.
        overwrite_ignored: bool,
        /// Whether the index must hold nothing but what the old commit has.
        #[serde(default, skip_serializing_if = "is_false")]
        whole_index: bool,
    },
    /// Checks what a switch of a work tree has left.
    VerifyWorktree {
        /// The git directory of the work tree.
        at: PathBytes,
        /// The commit that it was at.
        old: Option<CommitId>,
        /// The commit that it should be at.
        new: CommitId,
        /// Where `HEAD` was.
        head_from: HeadPosition,
        /// Where `HEAD` should be.
        head_to: HeadPosition,
    },
    /// Makes a linked work tree without files.
    AddWorktree {
        /// Its folder, absolute.
        folder: PathBytes,
        /// What the repository calls it.
        name: String,
        /// Where its `HEAD` is.
        head: HeadPosition,
        /// The commit there.
        commit: CommitId,
    },
    /// Lets go of the lock of a linked work tree that this operation made.
    ReleaseAddedWorktree {
        /// What the repository calls it.
        name: String,
    },
    /// Moves a linked work tree aside.
    RemoveWorktree {
        /// Its folder, absolute.
        folder: PathBytes,
        /// What the repository calls it.
        name: String,
        /// Whether what is changed or untracked there may be saved elsewhere.
        keep_changes: bool,
        /// Whether what is ignored there may go for good.
        discard_ignored: bool,
    },
    /// Takes a linked work tree away that was moved aside.
    ReleaseRemovedWorktree {
        /// The folder where it was, absolute.
        folder: PathBytes,
        /// What the repository called it.
        name: String,
        /// Whether what is changed or untracked there is saved.
        keep_changes: bool,
        /// Whether what is ignored there may go for good.
        discard_ignored: bool,
    },
    /// Lets go of what a switch of a work tree kept for the way back.
    ReleaseWorktree {
        /// The git directory of the work tree.
        at: PathBytes,
        /// The commit that it was at.
        old: Option<CommitId>,
        /// The commit that it is at.
        new: CommitId,
        /// Where `HEAD` was.
        head_from: HeadPosition,
        /// Where `HEAD` is.
        head_to: HeadPosition,
    },
}

impl GitStep {
    /// The work tree that a step is about, and its switch.
    fn switch(&self) -> Option<(&PathBytes, Switch)> {
        let (Self::InspectWorktree { at, old, new, head_from, head_to, .. }
        | Self::SwitchWorktree { at, old, new, head_from, head_to, .. }
        | Self::VerifyWorktree { at, old, new, head_from, head_to }
        | Self::ReleaseWorktree { at, old, new, head_from, head_to }) = self
        else {
            return None;
        };
        let (overwrite_ignored, whole_index) = match self {
            Self::InspectWorktree { overwrite_ignored, whole_index, .. }
            | Self::SwitchWorktree { overwrite_ignored, whole_index, .. } => {
                (*overwrite_ignored, *whole_index)
            }
            _ => (false, false),
        };
        let switch = Switch {
            old: old.clone(),
            new: new.clone(),
            head_from: head_from.clone(),
            head_to: head_to.clone(),
            overwrite_ignored,
            whole_index,
        };
        Some((at, switch))
    }

    /// The linked work tree that a step makes.
    fn added(&self, env: &GitRepository) -> Option<Added> {
        let Self::AddWorktree { folder, name, head, commit } = self else { return None };
        Some(Added {
            common_dir: env.common_dir().to_owned(),
            folder: folder.to_path(),
            name: name.clone(),
            head: head.clone(),
            commit: commit.clone(),
        })
    }

    /// The linked work tree that a step takes away.
    fn removal(&self, env: &GitRepository) -> Option<Removal> {
        let (Self::RemoveWorktree { folder, name, keep_changes, discard_ignored }
        | Self::ReleaseRemovedWorktree { folder, name, keep_changes, discard_ignored }) = self
        else {
            return None;
        };
        Some(Removal {
            common_dir: env.common_dir().to_owned(),
            folder: folder.to_path(),
            name: name.clone(),
            keep_changes: *keep_changes,
            discard_ignored: *discard_ignored,
        })
    }

    /// Runs blocking work on the work tree that a step is about.
    async fn on_worktree<T: Send + 'static>(
        &self,
        cx: &StepContext,
        work: impl FnOnce(&gix::Repository, &Switch, &StepContext) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StepError> {
        let (at, switch) =
            self.switch().ok_or_else(|| StepError::permanent("the step is about no work tree"))?;
        let (at, inner) = (at.to_path(), cx.clone());
        bounded(cx, move || work(&open_git_dir(&at)?, &switch, &inner)).await
    }
}

/// Runs blocking work of a step, whose programs end when the step is to end.
async fn bounded<T: Send + 'static>(
    cx: &StepContext,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, StepError> {
    cx.blocking(move |cancellation| Bound::of_a_step(cancellation).within(work)).await
}

fn folders_made(name: &str) -> String {
    format!("folders made for work tree {name}")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Step for GitStep {
    const FAMILY: &'static str = "git";
    type Env = GitRepository;

    fn name(&self) -> &'static str {
        words::name(self)
    }

    fn effect(&self) -> Effect {
        words::effect(self)
    }

    async fn check(
        &self,
        env: &GitRepository,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        run::check(self, env, cx).await
    }

    async fn run(&self, env: &GitRepository, cx: &StepContext) -> Result<(), StepError> {
        run::run(self, env, cx).await
    }

    async fn undo(&self, env: &GitRepository, cx: &StepContext) -> Result<(), StepError> {
        undo::undo(self, env, cx).await
    }
}
