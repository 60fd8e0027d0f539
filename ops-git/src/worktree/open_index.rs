//! The index as an inspection needs it: whole, and with what it tells git not to look for.

use std::collections::BTreeSet;

use gix::bstr::BString;
use gix::index::State;
use gix::index::entry::{Flags, Mode};
use gix::worktree::IndexPersistedOrInMemory;

use super::index_file;
use super::look::Look;
use super::planner::View as _;
use super::prepare::workdir;
use crate::error::{Error, ErrorKind, GitResult as _};

/// The index of a work tree, read once.
pub(crate) struct OpenIndex {
    file: IndexPersistedOrInMemory,
    split: bool,
}

impl OpenIndex {
    pub(crate) fn read(repo: &gix::Repository) -> Result<Self, Error> {
        let index = index_file::read(repo)?;
        let file = if index.split {
            // gix puts the two together.
            let whole = repo.index().doing(|| "the index cannot be read".into())?;
            IndexPersistedOrInMemory::Persisted(whole)
        } else {
            let file = gix::index::File::from_state(index.state, index.path);
            IndexPersistedOrInMemory::InMemory(file)
        };
        Ok(Self { file, split: index.split })
    }

    pub(crate) fn state(&self) -> &State {
        &self.file
    }

    pub(crate) fn into_gix(self) -> IndexPersistedOrInMemory {
        self.file
    }

    pub(crate) fn is_split(&self) -> bool {
        self.split
    }

    /// Whether a part of the tree is not checked out.
    pub(crate) fn is_sparse(&self) -> bool {
        let skipped = |entry: &gix::index::Entry| entry.flags.contains(Flags::SKIP_WORKTREE);
        self.state().is_sparse() || self.state().entries().iter().any(skipped)
    }

    /// Files that differ from the index although it says that nobody need look: that they are to be
    /// assumed unchanged, that they are not checked out, or that a monitor saw no change.
    pub(crate) fn hidden_changes(
        &self,
        repo: &gix::Repository,
    ) -> Result<BTreeSet<BString>, Error> {
        let state = self.state();
        let hidden = Flags::ASSUME_VALID | Flags::SKIP_WORKTREE | Flags::FSMONITOR_VALID;
        let mut flagged = state
            .entries()
            .iter()
            .filter(|entry| entry.flags.intersects(hidden))
            .filter(|entry| entry.mode != Mode::COMMIT && entry.mode != Mode::DIR)
            .peekable();
        let mut found = BTreeSet::new();
        if flagged.peek().is_none() {
            return Ok(found);
        }
        let root = workdir(repo)?;
        let mut look = Look::new(repo, &root, state)?;
        for entry in flagged {
            let path = entry.path(state);
            let absent = look.look(path)?.is_none();
            if absent && entry.flags.contains(Flags::SKIP_WORKTREE) {
                continue;
            }
            let same = look.unchanged(path, entry).map_err(|reason| {
                Error::new(ErrorKind::Git, format!("`{path}` cannot be compared: {reason}"))
            })?;
            if !same {
                found.insert(path.to_owned());
            }
        }
        Ok(found)
    }
}
