//! From a new commit to the steps that put a branch there.
//!
//! This is the one place that knows what hangs on a branch. One that no work tree has checked out
//! only moves.

use ops_core::{CommitId, Plan, Refusal};

use crate::blocker::Blocker;
use crate::error::Error;
use crate::id::BranchName;
use crate::pull::checked_out;
use crate::repository::GitRepository;
use crate::step::GitStep;

/// Adds to a plan what brings a branch from one commit to another.
pub(crate) fn place(
    this: &GitRepository,
    plan: Plan,
    branch: &BranchName,
    old: CommitId,
    new: CommitId,
) -> Result<Plan, Error> {
    let branch = branch.clone();
    Ok(plan
        .change(
            this,
            &GitStep::MoveBranch { branch: branch.clone(), old: Some(old), new: new.clone() },
        )?
        .change(this, &GitStep::VerifyBranch { branch: branch.clone(), commit: new })?
        .finisher(this, &GitStep::ReleaseTip { branch })?)
}

/// Why a branch cannot be placed.
pub(crate) fn in_the_way(repo: &gix::Repository, branch: &BranchName) -> Vec<Refusal> {
    let reason = |blocker: Blocker| {
        let Refusal { reason, .. } = Refusal::from(blocker);
        Refusal::new(reason, "do it in a bare mirror, or switch that work tree away first")
    };
    checked_out(repo, branch).into_iter().map(reason).collect()
}
