//! The reversible steps of this crate.

use ops_core::{CommitId, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::branch;
use crate::error::Error;
use crate::export;
use crate::id::BranchName;
use crate::linked::{self, Added, Removal};
use crate::merge::{self, MergeCommit};
use crate::objects;
use crate::path_bytes::PathBytes;
use crate::recovery_ref;
use crate::repository::{GitRepository, open_git_dir};
use crate::tag::{self, TagName, Tagging};
use crate::worktree::{self, HeadPosition, Switch};

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
        work: fn(&gix::Repository, &Switch, &StepContext) -> Result<T, Error>,
    ) -> Result<T, StepError> {
        let (at, switch) =
            self.switch().ok_or_else(|| StepError::permanent("the step is about no work tree"))?;
        let (at, inner) = (at.to_path(), cx.clone());
        cx.blocking(move |_| work(&open_git_dir(&at)?, &switch, &inner)).await
    }
}

/// Everything against a switch, with the commit of the merge in memory where one is to be made.
async fn against(
    step: &GitStep,
    merge: Option<&MergeCommit>,
    cx: &StepContext,
) -> Result<Vec<Refusal>, StepError> {
    let (at, switch) =
        step.switch().ok_or_else(|| StepError::permanent("the step is about no work tree"))?;
    let (at, merge) = (at.to_path(), merge.cloned());
    cx.blocking(move |_| {
        let repo = open_git_dir(&at)?;
        match merge {
            Some(merge) => worktree::check(&merge::in_memory(&repo, &merge)?, &switch),
            None => worktree::check(&repo, &switch),
        }
    })
    .await
}

fn folders_made(name: &str) -> String {
    format!("folders made for work tree {name}")
}

/// Notes for the report which commit was found. An operation may verify several, so each has a key
/// of its own.
async fn verified(cx: &StepContext, when: &str, sha: Option<CommitId>) -> Result<(), StepError> {
    let which = sha.as_ref().map_or_else(|| "none".to_owned(), |sha| sha.version().to_string());
    cx.observe(&format!("sha verified {when}: {which}"), async { Ok(sha) }).await?;
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Step for GitStep {
    const FAMILY: &'static str = "git";
    type Env = GitRepository;

    fn name(&self) -> &'static str {
        match self {
            Self::MoveBranch { .. } => "move_branch",
            Self::KeepTip { .. } => "keep_tip",
            Self::PointHead { .. } => "point_head",
            Self::VerifyBranch { .. } => "verify_branch",
            Self::WriteMerge { .. } => "write_merge",
            Self::Tag { .. } => "tag",
            Self::ReleaseTag { .. } => "release_tag",
            Self::ReleaseTip { .. } => "release_tip",
            Self::Export { .. } => "export",
            Self::InspectWorktree { .. } => "inspect_worktree",
            Self::SwitchWorktree { .. } => "switch_worktree",
            Self::VerifyWorktree { .. } => "verify_worktree",
            Self::AddWorktree { .. } => "add_worktree",
            Self::ReleaseAddedWorktree { .. } => "release_added_worktree",
            Self::RemoveWorktree { .. } => "remove_worktree",
            Self::ReleaseRemovedWorktree { .. } => "release_removed_worktree",
            Self::ReleaseWorktree { .. } => "release_worktree",
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
            Self::KeepTip { branch, commit } => Effect::changes(format!(
                "keep {} as `{}/<operation>`",
                commit.version(),
                recovery_ref::folder(branch)
            )),
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
            Self::InspectWorktree { new, .. } => Effect::reads(format!(
                "look whether the work tree can become {}, without losing anything",
                new.version()
            )),
            Self::SwitchWorktree { old, new, head_to, .. } => Effect::changes(format!(
                "switch the work tree from {} to {}, HEAD on {head_to}",
                old.as_ref().map_or_else(|| "nothing".to_owned(), |old| old.version().to_string()),
                new.version()
            )),
            Self::VerifyWorktree { new, .. } => {
                Effect::reads(format!("verify that the work tree is at {}", new.version()))
            }
            Self::AddWorktree { folder, head, .. } => {
                Effect::changes(format!("make a linked work tree at `{folder}`, HEAD on {head}"))
            }
            Self::ReleaseAddedWorktree { name } => {
                Effect::changes(format!("let go of the lock of work tree `{name}`"))
            }
            Self::RemoveWorktree { folder, .. } => {
                Effect::changes(format!("move the linked work tree `{folder}` aside"))
            }
            Self::ReleaseRemovedWorktree { folder, discard_ignored: true, .. } => Effect::destroys(
                format!("take the linked work tree `{folder}` away, with its ignored files"),
            ),
            Self::ReleaseRemovedWorktree { folder, .. } => {
                Effect::changes(format!("take the linked work tree `{folder}` away"))
            }
            Self::ReleaseWorktree { old, .. } => Effect::changes(format!(
                "let go of the old files of {}",
                old.as_ref().map_or_else(|| "nothing".to_owned(), |old| old.version().to_string())
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
            Self::InspectWorktree { merge, .. } => against(self, merge.as_deref(), cx).await,
            Self::AddWorktree { .. } => match self.added(env) {
                Some(added) => Ok(env.blocking(move |repo| added.check(repo)).await?),
                None => Ok(Vec::new()),
            },
            Self::RemoveWorktree { .. } => match self.removal(env) {
                Some(removal) => cx.blocking(move |_| removal.check()).await,
                None => Ok(Vec::new()),
            },
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, env: &GitRepository, cx: &StepContext) -> Result<(), StepError> {
        match self.clone() {
            Self::MoveBranch { branch, old, new } => {
                let (env, in_step) = (env.clone(), cx.clone());
                let before = old.clone();
                cx.blocking(move |_| {
                    branch::run(&env.handle()?, &branch, old.as_ref(), &new, &in_step)
                })
                .await?;
                verified(cx, "before", before).await
            }
            Self::KeepTip { branch, commit } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| recovery_ref::run(&env.handle()?, &branch, &commit, &in_step))
                    .await
            }
            Self::PointHead { from, to } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| branch::point_head(&env.handle()?, &from, &to, id)).await
            }
            Self::VerifyBranch { branch, commit } => {
                let (env, at) = (env.clone(), commit.clone());
                cx.blocking(move |_| branch::verify(&env.handle()?, &branch, &at)).await?;
                verified(cx, "after", Some(commit)).await
            }
            Self::WriteMerge { merge } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| merge::write(&env.handle()?, &merge, id)).await
            }
            Self::Tag { tag } => {
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
            Self::ReleaseTag { name } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| tag::release(&env.handle()?, &name, id)).await
            }
            Self::ReleaseTip { branch } => {
                let (env, id) = (env.clone(), cx.operation());
                cx.blocking(move |_| branch::release(&env.handle()?, &branch, id)).await
            }
            Self::Export { commit, folder } => {
                verified(cx, "before", Some(commit.clone())).await?;
                export::run(env, commit.clone(), &folder.to_path(), cx).await?;
                verified(cx, "after", Some(commit)).await
            }
            Self::InspectWorktree { old, merge, .. } => {
                let reasons = against(self, merge.as_deref(), cx).await?;
                if !reasons.is_empty() {
                    return Err(Error::refused("the work tree cannot be switched", reasons).into());
                }
                verified(cx, "before", old).await
            }
            Self::SwitchWorktree { .. } => self.on_worktree(cx, worktree::run).await,
            Self::VerifyWorktree { new, .. } => {
                self.on_worktree(cx, worktree::verify).await?;
                verified(cx, "after", Some(new)).await
            }
            Self::AddWorktree { folder, name, .. } => {
                let Some(added) = self.added(env) else { return Ok(()) };
                // Known again when it is undone: what was there before stays.
                let made = async { Ok(linked::levels(&folder.to_path())) };
                cx.observe(&folders_made(&name), made).await?;
                let id = cx.operation();
                let env = env.clone();
                cx.blocking(move |_| {
                    added.run(&env.handle()?, id)?;
                    added.verify()
                })
                .await
            }
            Self::ReleaseAddedWorktree { name } => {
                let (common_dir, id) = (env.common_dir().to_owned(), cx.operation());
                cx.blocking(move |_| linked::release_added(&common_dir, &name, id)).await
            }
            Self::RemoveWorktree { .. } => {
                let Some(removal) = self.removal(env) else { return Ok(()) };
                let id = cx.operation();
                cx.blocking(move |_| removal.run(id)).await
            }
            Self::ReleaseRemovedWorktree { .. } => {
                let Some(removal) = self.removal(env) else { return Ok(()) };
                let id = cx.operation();
                let saved = cx.blocking(move |_| removal.release(id)).await?;
                if !saved.is_empty() {
                    cx.observe("saved files", async { Ok(saved) }).await?;
                }
                Ok(())
            }
            Self::ReleaseWorktree { .. } => self.on_worktree(cx, worktree::release).await,
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
            Self::KeepTip { branch, .. } => {
                let (env, in_step) = (env.clone(), cx.clone());
                cx.blocking(move |_| recovery_ref::undo(&env.handle()?, &branch, &in_step)).await
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
            Self::AddWorktree { ref name, .. } => {
                let (Some(added), Some(made)) =
                    (self.added(env), cx.noted::<Vec<PathBytes>>(&folders_made(name))?)
                else {
                    return Ok(());
                };
                let id = cx.operation();
                cx.blocking(move |_| added.undo(&made, id)).await
            }
            Self::RemoveWorktree { .. } => {
                let Some(removal) = self.removal(env) else { return Ok(()) };
                let id = cx.operation();
                cx.blocking(move |_| removal.undo(id)).await
            }
            // A work tree that this operation made may be gone again.
            Self::SwitchWorktree { at, .. } if !at.to_path().exists() => Ok(()),
            Self::SwitchWorktree { .. } => {
                let saved = self.on_worktree(cx, worktree::undo).await?;
                if !saved.is_empty() {
                    cx.observe("saved files", async { Ok(saved) }).await?;
                }
                Ok(())
            }
            Self::VerifyBranch { .. }
            | Self::ReleaseTip { .. }
            | Self::ReleaseTag { .. }
            | Self::InspectWorktree { .. }
            | Self::VerifyWorktree { .. }
            | Self::ReleaseAddedWorktree { .. }
            | Self::ReleaseRemovedWorktree { .. }
            | Self::ReleaseWorktree { .. } => Ok(()),
        }
    }
}
