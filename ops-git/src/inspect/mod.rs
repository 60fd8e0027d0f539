//! Looks at a repository and names everything that stands in the way.

mod locks;
mod options;
mod upstream;
mod work_tree;

use gix::state::InProgress;
use ops_core::CommitId;

use crate::ahead_behind::{Apart, ahead_behind};
use crate::blocker::{Blocker, Inspection};
use crate::error::{Error, GitResult as _};
use crate::id::{BranchName, commit_id, object_id};
use crate::lock_file::LockFile;
use crate::{room, worktree};

pub use options::InspectOptions;
pub(crate) use upstream::Upstream;

pub(crate) fn inspect(
    repo: &gix::Repository,
    options: &InspectOptions,
) -> Result<Inspection, Error> {
    let mut blockers = of_the_repository(repo)?;
    blockers.retain(|blocker| !(options.shallow && *blocker == Blocker::Shallow));
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let commit = head.id().map(|id| commit_id(id.detach()));
    let branch = head.referent_name().and_then(BranchName::from_full);
    if let (true, false, Some(commit)) = (head.is_detached(), options.detached_head, &commit) {
        blockers.push(Blocker::DetachedHead { commit: commit.clone() });
    }

    let mut upstream = None;
    if let Some(branch) = &branch {
        match Upstream::of(repo, branch) {
            Some(found) => {
                let tip = found.tip(repo)?;
                let local = head.id().map(gix::Id::detach);
                if let (Some(local), Some(tip)) = (local, tip) {
                    let Apart { ahead, behind, .. } = ahead_behind(repo, local, tip)?;
                    if ahead > 0 && behind > 0 {
                        let (branch, local, upstream) =
                            (branch.clone(), commit_id(local), commit_id(tip));
                        blockers.push(if related(repo, &local, &upstream)? {
                            Blocker::Diverged { branch, local, upstream, ahead, behind }
                        } else {
                            Blocker::Unrelated { branch, local, upstream }
                        });
                    }
                }
                upstream = Some(format!("{}/{}", found.remote, found.branch));
            }
            None if options.no_upstream => {}
            None => blockers.push(Blocker::NoUpstream { branch: branch.clone() }),
        }
    }
    if !repo.is_bare() {
        blockers.extend(work_tree::of_the_work_tree(repo, options));
    }
    if options.free_space > 0 {
        let work_tree = repo.workdir().filter(|_| !repo.is_bare());
        for folder in std::iter::once(repo.common_dir()).chain(work_tree) {
            blockers.extend(room::lacking(folder, options.free_space)?);
        }
    }
    let found = Inspection { head: commit, branch, upstream, bare: repo.is_bare(), blockers };
    Ok(options.branch.iter().fold(found, Inspection::expecting))
}

/// Whether two commits have an ancestor in common.
fn related(repo: &gix::Repository, one: &CommitId, other: &CommitId) -> Result<bool, Error> {
    let bases = repo
        .merge_bases_many(object_id(one)?, &[object_id(other)?])
        .doing(|| format!("what {one} and {other} have in common cannot be told"))?;
    Ok(!bases.is_empty())
}

/// What stands in the way of every change: owner, operations in progress, locks, cut history.
pub(crate) fn of_the_repository(repo: &gix::Repository) -> Result<Vec<Blocker>, Error> {
    let mut blockers = Vec::new();
    if repo.git_dir_trust() != gix::sec::Trust::Full {
        blockers.push(Blocker::UntrustedOwner { path: repo.git_dir().to_owned() });
    }
    if let Some(state) = repo.state() {
        blockers.push(Blocker::OperationInProgress { operation: name_of(&state).to_owned() });
    }
    if repo.is_shallow().doing(|| "whether history is cut off cannot be told".into())? {
        blockers.push(Blocker::Shallow);
    }
    // A lock of ours that is left over is taken away by whoever needs it.
    let stale = worktree::is_stale(repo.git_dir());
    for path in locks::locks(repo)? {
        if stale && path == repo.git_dir().join("index.lock") {
            continue;
        }
        // A lock that is gone by now was a short one, and blocks nobody.
        let Some(LockFile { path, age, owner }) = LockFile::at(&path) else { continue };
        blockers.push(Blocker::Locked { path, age, owner });
    }
    let interrupted = worktree::interrupted(repo.git_dir())?.into_iter();
    blockers
        .extend(interrupted.map(|(operation, folder)| Blocker::Interrupted { operation, folder }));
    Ok(blockers)
}

fn name_of(state: &InProgress) -> &'static str {
    match state {
        InProgress::ApplyMailbox | InProgress::ApplyMailboxRebase => "am",
        InProgress::Bisect => "bisect",
        InProgress::CherryPick | InProgress::CherryPickSequence => "cherry-pick",
        InProgress::Merge => "merge",
        InProgress::Rebase | InProgress::RebaseInteractive => "rebase",
        InProgress::Revert | InProgress::RevertSequence => "revert",
    }
}
