//! Which work tree a branch is checked out in, if any.

use std::path::{Path, PathBuf};

use crate::blocker::Blocker;
use crate::id::BranchName;

/// Whether the work tree that the repository was opened with is on a branch.
pub(crate) fn here(repo: &gix::Repository, branch: &BranchName) -> bool {
    let head = repo.head_name().ok().flatten();
    let on = head.and_then(|name| BranchName::from_full(name.as_ref()));
    repo.workdir().is_some() && on.as_ref() == Some(branch)
}

/// Every other work tree of the repository that a branch belongs to: it would be left behind if
/// the branch moved.
pub(crate) fn elsewhere(repo: &gix::Repository, branch: &BranchName) -> Vec<Blocker> {
    let own = canonical(repo.git_dir());
    let mut found = Vec::new();
    let mut look = |repo: &gix::Repository| {
        if canonical(repo.git_dir()) != own
            && let Some(worktree) = repo.workdir()
            && (here(repo, branch) || is_being_worked_on(repo.git_dir(), branch))
        {
            let worktree = worktree.to_owned();
            found.push(Blocker::CheckedOut { branch: branch.clone(), worktree });
        }
    };
    if let Ok(main) = repo.main_repo() {
        look(&main);
    }
    for proxy in repo.worktrees().into_iter().flatten() {
        if let Ok(linked) = proxy.into_repo_with_possibly_inaccessible_worktree() {
            look(&linked);
        }
    }
    found
}

/// Every work tree of the repository that a branch belongs to.
pub(crate) fn anywhere(repo: &gix::Repository, branch: &BranchName) -> Vec<Blocker> {
    let mut found = elsewhere(repo, branch);
    if let Some(worktree) = repo.workdir().filter(|_| here(repo, branch)) {
        let worktree = worktree.to_owned();
        found.push(Blocker::CheckedOut { branch: branch.clone(), worktree });
    }
    found
}

/// A rebase and a bisect detach `HEAD`, and come back to the branch.
fn is_being_worked_on(git_dir: &Path, branch: &BranchName) -> bool {
    ["rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"].iter().any(|file| {
        let text = std::fs::read_to_string(git_dir.join(file)).unwrap_or_default();
        let name = text.trim();
        name.strip_prefix("refs/heads/").unwrap_or(name) == branch.as_str()
    })
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
