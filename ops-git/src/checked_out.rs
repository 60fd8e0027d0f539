//! Which work tree a branch is checked out in, if any.

use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice as _;

use crate::blocker::Blocker;
use crate::error::{Error, GitResult as _};
use crate::id::BranchName;
use crate::presence;

/// Whether the work tree that the repository was opened with is on a branch.
pub(crate) fn here(repo: &gix::Repository, branch: &BranchName) -> Result<bool, Error> {
    Ok(on(repo, branch)? && repo.workdir().is_some())
}

fn on(repo: &gix::Repository, branch: &BranchName) -> Result<bool, Error> {
    let head = repo.head_name().doing(|| "HEAD cannot be read".into())?;
    let on = head.and_then(|name| BranchName::from_full(name.as_ref()));
    Ok(on.as_ref() == Some(branch))
}

/// Every other work tree of the repository that a branch belongs to: it would be left behind if
/// the branch moved. One of which that cannot be told may be one of them.
pub(crate) fn elsewhere(repo: &gix::Repository, branch: &BranchName) -> Vec<Blocker> {
    let own = canonical(repo.git_dir());
    let mut found = Vec::new();
    let main = repo.common_dir().to_owned();
    let mut look = |git_dir: &Path, opened: gix::Result<gix::Repository>| {
        if canonical(git_dir) == own {
            return;
        }
        let opened = opened.doing(|| format!("`{}` cannot be opened", git_dir.display()));
        let belongs = opened.and_then(|repo| {
            if repo.workdir().is_none() && git_dir == main {
                // It is bare.
                return Ok(None);
            }
            // The folder of a linked one may be out of reach; its `HEAD` counts all the same.
            let worktree = repo.workdir().unwrap_or(git_dir).to_owned();
            let belongs = on(&repo, branch)? || is_being_worked_on(git_dir, branch)?;
            Ok(belongs.then_some(worktree))
        });
        found.extend(match belongs {
            Ok(worktree) => {
                worktree.map(|worktree| Blocker::CheckedOut { branch: branch.clone(), worktree })
            }
            Err(error) => Some(unknown(git_dir, &error)),
        });
    };
    look(&main, repo.main_repo());
    match repo.worktrees().doing(|| "the linked work trees cannot be listed".into()) {
        Ok(linked) => {
            for proxy in linked {
                let git_dir = proxy.git_dir().to_owned();
                look(&git_dir, proxy.into_repo_with_possibly_inaccessible_worktree());
            }
        }
        Err(error) => found.push(unknown(&repo.common_dir().join("worktrees"), &error)),
    }
    found
}

/// Every work tree of the repository that a branch belongs to.
pub(crate) fn anywhere(repo: &gix::Repository, branch: &BranchName) -> Result<Vec<Blocker>, Error> {
    let mut found = elsewhere(repo, branch);
    if let (Some(worktree), true) = (repo.workdir(), here(repo, branch)?) {
        let worktree = worktree.to_owned();
        found.push(Blocker::CheckedOut { branch: branch.clone(), worktree });
    }
    Ok(found)
}

fn unknown(git_dir: &Path, error: &Error) -> Blocker {
    let reason = ops_core::error::chain(error).join(": ");
    Blocker::BranchUnknown { git_dir: git_dir.to_owned(), reason }
}

/// A rebase and a bisect detach `HEAD`, and come back to the branch; a rebase also moves the
/// branches that lie on its way when it ends.
fn is_being_worked_on(git_dir: &Path, branch: &BranchName) -> Result<bool, Error> {
    for file in [
        "rebase-merge/head-name",
        "rebase-apply/head-name",
        "rebase-merge/update-refs",
        "BISECT_START",
    ] {
        let text = presence::read(&git_dir.join(file))?.unwrap_or_default();
        let is_it = |line: &[u8]| {
            let name = line.trim();
            name.strip_prefix(b"refs/heads/").unwrap_or(name) == branch.as_str().as_bytes()
        };
        if text.lines().any(is_it) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
