//! Where a branch is pulled from.

use gix::refs::FullName;
use gix::remote::Direction;

use crate::error::Error;
use crate::id::BranchName;
use crate::refs;

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

    /// Where the remote's branch was when it was fetched last; `None` if it never was.
    pub(crate) fn tip(&self, repo: &gix::Repository) -> Result<Option<gix::ObjectId>, Error> {
        match FullName::try_from(self.tracking.as_str()) {
            Ok(name) => refs::tip(repo, &name),
            // What is no ref's name is nowhere.
            Err(_) => Ok(None),
        }
    }
}
