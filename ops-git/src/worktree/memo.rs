//! What was read of a repository and need not be read again while it is the same: a checkout is
//! looked at when it is planned, when it is checked, and once more under the lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::bstr::BString;

use super::index_file::{self, Index};
use super::tree_diff::{self, Change};
use crate::error::Error;

/// Where two trees differ, by their paths.
pub(super) type Changes = BTreeMap<BString, Change>;

/// Two trees, and whether all of their paths are wanted.
type Trees = (Option<gix::ObjectId>, gix::ObjectId, bool);

/// The index that was read last, and the two trees that were compared last.
#[derive(Default)]
pub(crate) struct Memo {
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    index: Option<Arc<Index>>,
    changes: Option<(Trees, Arc<Changes>)>,
}

impl Memo {
    /// The index as it is on disk now.
    pub(super) fn index(&self, repo: &gix::Repository) -> Result<Arc<Index>, Error> {
        let last = self.last().index.clone();
        if let Some(index) = last.filter(|index| index.is_still(&repo.index_path())) {
            return Ok(index);
        }
        let index = Arc::new(index_file::read(repo)?);
        self.last().index = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Where two trees differ: what has an id never changes.
    pub(super) fn changes(
        &self,
        repo: &gix::Repository,
        trees: Trees,
    ) -> Result<Arc<Changes>, Error> {
        let last = self.last().changes.clone();
        if let Some((_, changes)) = last.filter(|(of, _)| *of == trees) {
            return Ok(changes);
        }
        let (old, new, all) = trees;
        let changes = Arc::new(tree_diff::between(repo, old, Some(new), all)?);
        self.last().changes = Some((trees, Arc::clone(&changes)));
        Ok(changes)
    }

    /// Gives the memory back.
    pub(crate) fn forget(&self) {
        *self.last() = Last::default();
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}
