//! The linked work trees that there are.

use std::path::{Path, PathBuf};

use ops_core::CommitId;

use crate::error::{Error, GitResult as _};
use crate::repository::GitRepository;
use crate::worktree::{self, HeadPosition};

/// A linked work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkedWorktree {
    /// What the repository calls it: a folder below `worktrees` of its git directory.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
    /// Where its `HEAD` is; none if that cannot be told.
    pub head: Option<HeadPosition>,
    /// The commit there; none on a branch without commits.
    pub commit: Option<CommitId>,
    /// Why it is locked, if it is.
    pub locked: Option<String>,
    /// Whether its folder is gone.
    pub missing: bool,
}

impl GitRepository {
    /// The linked work trees of the repository, by name.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn worktrees(&self) -> Result<Vec<LinkedWorktree>, Error> {
        self.blocking(all).await
    }
}

pub(super) fn all(repo: &gix::Repository) -> Result<Vec<LinkedWorktree>, Error> {
    let doing = || "the linked work trees cannot be listed".to_owned();
    let mut found = Vec::new();
    for proxy in repo.worktrees().doing(doing)? {
        let name = proxy.id().doing(doing)?.to_string();
        let Ok(path) = proxy.base() else { continue };
        let locked = proxy.is_locked().then(|| proxy.lock_reason().unwrap_or_default().to_string());
        let missing = !path.join(".git").exists();
        let at = proxy
            .into_repo_with_possibly_inaccessible_worktree()
            .ok()
            .and_then(|linked| worktree::head_now(&linked).ok());
        let (head, commit) = at.map_or((None, None), |(head, commit)| (Some(head), commit));
        found.push(LinkedWorktree { name, path, head, commit, locked, missing });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// A path as the repository would write it: without links on the way, as far as it exists.
pub(super) fn resolved(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).map_err(|source| Error::io("find", path, source))?;
    for above in path.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let rest = path.strip_prefix(above).unwrap_or_else(|_| Path::new(""));
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(path)
}
