//! What an inspection is to let pass.

use crate::id::BranchName;

/// What an inspection lets pass, and what it asks for besides. By default nothing passes.
///
/// What is allowed is not looked for where that saves work.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[non_exhaustive]
pub struct InspectOptions {
    /// The branch that `HEAD` has to be on. Default: any.
    pub branch: Option<BranchName>,
    /// `HEAD` may be on no branch. Default: no.
    pub detached_head: bool,
    /// The branch may follow no remote branch. Default: no.
    pub no_upstream: bool,
    /// There may be files that git does not track; those in the way of a checkout or a merge are
    /// refused there. Default: no.
    pub untracked: bool,
    /// Submodules may be at another commit, or changed; no operation touches them. Default: no.
    pub submodules: bool,
    /// The history may be cut off. Default: no.
    pub shallow: bool,
    /// How many bytes must be free for the repository, and for the work tree. Default: 0.
    pub free_space: u64,
}

impl InspectOptions {
    /// `HEAD` has to be on this branch.
    pub fn on_branch(mut self, branch: BranchName) -> Self {
        self.branch = Some(branch);
        self
    }

    /// `HEAD` may be on no branch.
    pub fn allow_detached_head(mut self) -> Self {
        self.detached_head = true;
        self
    }

    /// The branch may follow no remote branch.
    pub fn allow_no_upstream(mut self) -> Self {
        self.no_upstream = true;
        self
    }

    /// There may be files that git does not track.
    pub fn allow_untracked(mut self) -> Self {
        self.untracked = true;
        self
    }

    /// Submodules may be at another commit, or changed.
    pub fn allow_submodules(mut self) -> Self {
        self.submodules = true;
        self
    }

    /// The history may be cut off.
    pub fn allow_shallow(mut self) -> Self {
        self.shallow = true;
        self
    }

    /// So many bytes must be free.
    pub fn free_space(mut self, bytes: u64) -> Self {
        self.free_space = bytes;
        self
    }
}
