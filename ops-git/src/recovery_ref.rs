//! Keeping a commit that a branch leaves for good: `refs/ops-git/recovery/<branch>/<operation>`.
//!
//! Only the operation writes this name, so whatever is there under it is the operation's own.

use gix::refs::FullName;
use ops_core::{CommitId, OperationId, StepContext};

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, object_id};
use crate::refs::{self, Move, shown};

/// What stands before the operation's id.
pub(crate) fn folder(branch: &BranchName) -> String {
    format!("refs/ops-git/recovery/{branch}")
}

fn name(branch: &BranchName, id: OperationId) -> FullName {
    FullName::try_from(format!("{}/{id}", folder(branch)))
        .expect("a branch's name and an operation's id make a ref's name")
}

pub(crate) fn run(
    repo: &gix::Repository,
    branch: &BranchName,
    commit: &CommitId,
    cx: &StepContext,
) -> Result<(), Error> {
    let (name, to) = (name(branch, cx.operation()), object_id(commit)?);
    match refs::tip(repo, &name)? {
        Some(now) if now == to => return refs::make_durable(repo, std::iter::once(&name)),
        None => {}
        now => {
            return Err(Error::new(
                ErrorKind::Moved,
                format!("`{}` is at {}, not at {to}", name.as_bstr(), shown(now)),
            )
            .remedy("find out who moved it, then recover"));
        }
    }
    repo.find_commit(to).doing(|| format!("commit {to} is not here, so it cannot be kept"))?;
    let lock_line = format!("{to}\n");
    refs::clear_own_lock(repo, &name, &[lock_line])?;
    let message = format!("ops-git: operation {}", cx.operation());
    refs::apply(repo, &[Move { name, from: None, to: Some(to), message }])?;
    cx.fault_point("git-recovery-ref-made");
    Ok(())
}

pub(crate) fn undo(
    repo: &gix::Repository,
    branch: &BranchName,
    cx: &StepContext,
) -> Result<(), Error> {
    refs::remove_private(repo, &name(branch, cx.operation()))
}
