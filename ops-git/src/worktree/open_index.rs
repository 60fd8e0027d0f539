//! The index as an inspection needs it: whole, and with what it tells git not to look for.

use std::collections::BTreeSet;

use gix::bstr::BString;
use gix::index::State;
use gix::index::entry::{Flags, Mode, Stage};
use gix::worktree::IndexPersistedOrInMemory;

use super::index_file;
use super::look::Look;
use super::planner::View as _;
use super::prepare::workdir;
use crate::error::{Error, ErrorKind, GitResult as _};

/// What tells git not to look at a file.
const HIDDEN: Flags = Flags::ASSUME_VALID.union(Flags::SKIP_WORKTREE).union(Flags::FSMONITOR_VALID);

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
        let mut flagged = state
            .entries()
            .iter()
            .filter(|entry| entry.flags.intersects(HIDDEN))
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

    /// Every other file that differs from the index, or is gone; and why of some that cannot be
    /// told. Of submodules only that a folder is there.
    pub(crate) fn changed(
        &self,
        repo: &gix::Repository,
    ) -> Result<(BTreeSet<BString>, Vec<String>), Error> {
        let state = self.state();
        let root = workdir(repo)?;
        let mut look = Look::new(repo, &root, state)?;
        let (mut found, mut unknown) = (BTreeSet::new(), Vec::new());
        for entry in state.entries() {
            if entry.flags.intersects(HIDDEN) || entry.stage() != Stage::Unconflicted {
                continue;
            }
            let path = entry.path(state);
            let same = match entry.mode {
                Mode::DIR => true,
                Mode::COMMIT => look.look(path)?.is_some_and(|seen| seen.is_folder()),
                // What is only intended to be added has no content that could be right.
                _ if entry.flags.contains(Flags::INTENT_TO_ADD) => false,
                _ => match look.unchanged(path, entry) {
                    Ok(same) => same,
                    Err(reason) => {
                        unknown.push(format!("`{path}` cannot be compared: {reason}"));
                        continue;
                    }
                },
            };
            if !same {
                found.insert(path.to_owned());
            }
        }
        Ok((found, unknown))
    }

    /// Paths with a conflict that nobody has resolved.
    pub(crate) fn unmerged(&self) -> BTreeSet<BString> {
        let state = self.state();
        let in_conflict = state.entries().iter().filter(|e| e.stage() != Stage::Unconflicted);
        in_conflict.map(|entry| entry.path(state).to_owned()).collect()
    }
}
