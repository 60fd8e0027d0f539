//! Looks at a repository and names everything that stands in the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gix::remote::Direction;
use gix::state::InProgress;

use crate::blocker::{Blocker, Inspection};
use crate::error::{Error, GitResult as _};
use crate::id::{BranchName, commit_id};
use crate::path_bytes::PathBytes;
use crate::worktree;

/// How many files below `refs` are looked at for locks.
const REF_FILES: usize = 100_000;

pub(crate) fn inspect(repo: &gix::Repository) -> Result<Inspection, Error> {
    let mut blockers = of_the_repository(repo)?;
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let commit = head.id().map(|id| commit_id(id.detach()));
    let branch = head.referent_name().and_then(BranchName::from_full);
    if let (true, Some(commit)) = (head.is_detached(), &commit) {
        blockers.push(Blocker::DetachedHead { commit: commit.clone() });
    }

    let mut upstream = None;
    if let Some(branch) = &branch {
        match Upstream::of(repo, branch) {
            Some(found) => {
                let tip = repo
                    .try_find_reference(&found.tracking)
                    .doing(|| format!("`{}` cannot be read", found.tracking))?
                    .and_then(|mut tracking| tracking.peel_to_id().ok())
                    .map(gix::Id::detach);
                let local = head.id().map(gix::Id::detach);
                if let (Some(local), Some(tip)) = (local, tip) {
                    let (ahead, behind) = apart(repo, local, tip)?;
                    if ahead > 0 && behind > 0 {
                        blockers.push(Blocker::Diverged {
                            branch: branch.clone(),
                            local: commit_id(local),
                            upstream: commit_id(tip),
                            ahead,
                            behind,
                        });
                    }
                }
                upstream = Some(format!("{}/{}", found.remote, found.branch));
            }
            None => blockers.push(Blocker::NoUpstream { branch: branch.clone() }),
        }
    }
    if !repo.is_bare() {
        blockers.extend(of_the_work_tree(repo));
    }
    Ok(Inspection { head: commit, branch, upstream, bare: repo.is_bare(), blockers })
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
    for path in locks(repo) {
        if stale && path == repo.git_dir().join("index.lock") {
            continue;
        }
        // A lock that is gone by now was a short one, and blocks nobody.
        let Ok(meta) = path.symlink_metadata() else { continue };
        let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        blockers.push(Blocker::Locked { path, age: age.unwrap_or(Duration::ZERO) });
    }
    let interrupted = worktree::interrupted(repo.git_dir()).into_iter();
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

fn locks(repo: &gix::Repository) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [repo.git_dir(), repo.common_dir()] {
        for name in ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"] {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    let mut budget = REF_FILES;
    ref_locks(&repo.common_dir().join("refs"), &mut budget, &mut found);
    found
}

fn ref_locks(folder: &Path, budget: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => ref_locks(&path, budget, found),
            Ok(_) if path.extension().is_some_and(|extension| extension == "lock") => {
                found.push(path);
            }
            _ => {}
        }
    }
}

/// Every path whose index entry or file differs from `HEAD`, and every untracked file. Whatever
/// fails on the way means that nothing can be said, and that is a blocker too.
fn of_the_work_tree(repo: &gix::Repository) -> Vec<Blocker> {
    let mut blockers = Vec::new();
    let mut paths: Vec<PathBytes> = Vec::new();
    let mut total = 0;
    let status = repo.status(gix::progress::Discard).and_then(|platform| {
        platform
            .untracked_files(gix::status::UntrackedFiles::Files)
            .into_iter(Vec::<gix::bstr::BString>::new())
    });
    match status {
        Ok(items) => {
            for item in items {
                match item {
                    Ok(item) => {
                        total += 1;
                        let path = PathBytes::new(item.location());
                        if paths.len() < Blocker::LISTED && !paths.contains(&path) {
                            paths.push(path);
                        }
                    }
                    Err(error) => {
                        blockers.push(Blocker::StatusUnknown { reason: chain_of(&error) });
                        break;
                    }
                }
            }
        }
        Err(error) => blockers.push(Blocker::StatusUnknown { reason: chain_of(&error) }),
    }
    if total > 0 {
        paths.sort();
        blockers.push(Blocker::Dirty { total: total.max(paths.len()), paths });
    }
    blockers
}

fn chain_of(error: &gix::Error) -> String {
    ops_core::error::chain(error).join(": ")
}

/// Where a branch is pulled from.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// The remote's name.
    pub remote: String,
    /// The branch there.
    pub branch: BranchName,
    /// The full name of the ref here that follows it.
    pub tracking: String,
}

impl Upstream {
    pub(crate) fn of(repo: &gix::Repository, branch: &BranchName) -> Option<Self> {
        let full = branch.full();
        let configured = || {
            let there = repo.branch_remote_ref_name(full.as_ref(), Direction::Fetch)?.ok()?;
            let there = BranchName::from_full(there.as_ref())?;
            let remote = repo.branch_remote_name(branch.as_str(), Direction::Fetch)?;
            Some((remote.as_symbol()?.to_owned(), there))
        };
        // In a mirror every branch follows the one of the same name.
        let mirrored = || {
            let is_mirror = repo.is_bare() && repo.try_find_remote("origin").is_some();
            is_mirror.then(|| ("origin".to_owned(), branch.clone()))
        };
        let (remote, there) = configured().or_else(mirrored)?;
        let tracking = format!("refs/remotes/{remote}/{there}");
        Some(Self { remote, branch: there, tracking })
    }
}

/// How many commits `one` has that `other` has not, and the other way round.
pub(crate) fn apart(
    repo: &gix::Repository,
    one: gix::ObjectId,
    other: gix::ObjectId,
) -> Result<(usize, usize), Error> {
    let count = |tip: gix::ObjectId, hidden: gix::ObjectId| -> Result<usize, Error> {
        let mut count = 0;
        for commit in repo.rev_walk([tip]).with_hidden([hidden]).all().history(tip)? {
            commit.history(tip)?;
            count += 1;
        }
        Ok(count)
    };
    if one == other {
        return Ok((0, 0));
    }
    Ok((count(one, other)?, count(other, one)?))
}
