//! Folders that are needed, and folders that nothing is left in.

use gix::bstr::{BStr, BString, ByteSlice as _};

use super::{Planner, View};
use crate::error::Error;
use crate::worktree::root::{Seen, above};
use crate::worktree::two_way::Kind;

impl<V: View> Planner<'_, V> {
    /// A folder that must be there; only one that is not there yet is made, and unmade again.
    pub(super) fn need(&mut self, folder: &BStr) -> Result<(), Error> {
        if self.there.contains(folder) || self.needed.contains(folder) {
            return Ok(());
        }
        let is_there = self.view.look(folder)?.is_some_and(|seen| seen.is_folder());
        let set = if is_there { &mut self.there } else { &mut self.needed };
        set.insert(folder.to_owned());
        Ok(())
    }

    /// The innermost folder above a path that exists.
    pub(super) fn nearest(&mut self, path: &BStr) -> Result<Option<Seen>, Error> {
        let mut found = None;
        for folder in above(path) {
            match self.view.look(folder)? {
                Some(seen) if seen.is_folder() => found = Some(seen),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Folders that nothing tracked is left in.
    pub(super) fn emptied(&mut self) -> Result<(), Error> {
        let gone: Vec<_> = self
            .plan
            .index
            .iter()
            .filter(|(_, cell)| cell.is_none())
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            for folder in above(path.as_bstr()) {
                if self.away.contains_key(folder) || self.holds_something(folder)? {
                    continue;
                }
                if let Some(seen) = self.view.look(folder)?
                    && seen.is_folder()
                {
                    self.away.insert(folder.to_owned(), seen.mode);
                }
            }
        }
        Ok(())
    }

    /// Whether something will lie in a folder in the end. What the user has taken away himself does
    /// not come back, though the index keeps it.
    pub(super) fn holds_something(&mut self, folder: &BStr) -> Result<bool, Error> {
        let below = slashed(folder);
        // A submodule is a folder of its own.
        if self.plan.index.get(folder).is_some_and(Option::is_some)
            && !self.files.contains_key(folder)
        {
            return Ok(true);
        }
        for (path, cell) in self.plan.index.range(below.clone()..) {
            if !path.starts_with(&below) {
                break;
            }
            let stays = match self.files.get(path) {
                Some(file) => file.new.is_some(),
                None => cell.is_some_and(|cell| cell.kind == Kind::Submodule),
            };
            if stays || self.populated.contains(path) {
                return Ok(true);
            }
        }
        let index = self.index;
        for entry in index.prefixed_entries(below.as_bstr()).into_iter().flatten() {
            let path = entry.path(index);
            if !self.files.contains_key(path) && self.view.look(path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(super) fn slashed(path: &BStr) -> BString {
    let mut path = path.to_owned();
    path.push(b'/');
    path
}
