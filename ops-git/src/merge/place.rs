//! From a new commit to the steps that put a branch there.
//!
//! This is the one place that knows what hangs on a branch. One that no work tree has checked out
//! only moves. The one that the repository's own work tree is on moves along with the work tree
//! and its index. One that another work tree is on stays: whoever works there would lose the
//! ground under their feet.

use ops_core::{CommitId, Plan, Refusal};

use super::commit::{MergeCommit, in_memory};
use crate::checked_out::{elsewhere, here};
use crate::checkout::{foresee, switching};
use crate::error::Error;
use crate::id::BranchName;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::worktree::{HeadPosition, SubmodulePolicy, Switch};

/// Where a branch is to be.
pub(crate) struct Landing {
    pub branch: BranchName,
    /// Where it is; `None` if it has no commit yet.
    pub old: Option<CommitId>,
    pub new: CommitId,
    /// What makes the new commit, if it has to be made.
    pub merge: Option<MergeCommit>,
    /// Whether ignored files that are in the way may be replaced.
    pub overwrite_ignored: bool,
    pub submodules: SubmodulePolicy,
}

/// Adds to a plan what brings a branch from one commit to another, and its work tree with it.
pub(crate) fn place(
    this: &GitRepository,
    repo: &gix::Repository,
    mut plan: Plan,
    landing: Landing,
) -> Result<Plan, Error> {
    let Landing { branch, old, new, merge, overwrite_ignored, submodules } = landing;
    if !here(repo, &branch)? {
        if let Some(merge) = merge {
            plan = plan.change(this, &GitStep::WriteMerge { merge })?;
        }
        return Ok(plan
            .change(this, &GitStep::MoveBranch { branch: branch.clone(), old, new: new.clone() })?
            .change(this, &GitStep::VerifyBranch { branch: branch.clone(), commit: new })?
            .finisher(this, &GitStep::ReleaseTip { branch })?);
    }
    let head = HeadPosition::Branch { branch: branch.clone() };
    let switch = Switch {
        old,
        new,
        head_from: head.clone(),
        head_to: head,
        overwrite_ignored,
        whole_index: merge.is_some(),
    };
    let (foreseen, blockers) = match &merge {
        Some(merge) => foresee(&in_memory(repo, merge)?, &switch, submodules, this.memo())?,
        None => foresee(repo, &switch, submodules, this.memo())?,
    };
    if !blockers.is_empty() {
        let reasons = blockers.into_iter().map(Refusal::from).collect();
        let what = format!("branch `{branch}` cannot move with its work tree");
        return Err(Error::refused(what, reasons));
    }
    let work_tree = repo.workdir().map(|folder| folder.display().to_string());
    let plan = foreseen.facts(plan.fact("work_tree", work_tree.unwrap_or_default()));
    switching(this, repo, plan, switch, merge, foreseen.into_inner())
}

/// Why a branch cannot be placed.
pub(crate) fn in_the_way(repo: &gix::Repository, branch: &BranchName) -> Vec<Refusal> {
    elsewhere(repo, branch).into_iter().map(Refusal::from).collect()
}
