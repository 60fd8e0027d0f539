//! What is at a path that git does not track: it must not be lost.

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::entry::Stage;

use super::folders::slashed;
use super::{Old, Planner, View};
use crate::error::Error;
use crate::worktree::obstacle::Obstacle;
use crate::worktree::root::Seen;
use crate::worktree::two_way::{Cell, Kind};

/// What is in a folder besides what the index has.
pub(super) struct Inside {
    /// Nothing tracked stays in it.
    free: bool,
    files: Vec<(BString, Seen)>,
    /// The folder and all below it, with their modes.
    folders: Vec<(BString, u32)>,
}

impl<V: View> Planner<'_, V> {
    /// Neither the index nor the new tree has the path: what is there belongs to nobody.
    pub(super) fn absent(&mut self, path: &BStr) -> Result<(), Error> {
        let (path, seen) = match self.reach(path)? {
            Ok(None) => return Ok(()),
            Ok(Some(seen)) => (path.to_owned(), seen),
            Err(folder) if self.leaving.contains(&folder) => return Ok(()),
            Err(folder) => match self.view.look(folder.as_bstr())? {
                Some(seen) => (folder, seen),
                None => return Ok(()),
            },
        };
        let path = path.as_bstr();
        match self.view.ignored(path, seen.is_folder()) {
            Ok(true) => {}
            Ok(false) if seen.is_folder() => {
                if !self.untracked_inside(path)?.files.is_empty() {
                    self.refuse(path, Obstacle::Untracked);
                }
            }
            Ok(false) => self.refuse(path, Obstacle::Untracked),
            Err(reason) => self.unreadable(path, reason),
        }
        Ok(())
    }

    /// A path that is new to the index: nothing of anybody's may be there.
    pub(super) fn create(&mut self, path: &BStr, new: Cell) -> Result<(), Error> {
        let seen = match self.reach(path)? {
            Ok(seen) => seen,
            Err(folder) => {
                let free = self.leaving.contains(&folder) || self.give_way(folder.as_bstr())?;
                if !free {
                    return Ok(());
                }
                None
            }
        };
        let Some(seen) = seen else { return self.put(path, None, new) };
        if !seen.is_folder() {
            // A tracked file that leaves under this very name would have been replaced instead.
            return match self.may_overwrite(path, &seen) {
                Some(old) => self.put(path, Some(old), new),
                None => Ok(()),
            };
        }
        if new.kind == Kind::Submodule {
            // A folder that is there is where its work tree will be.
            return Ok(());
        }
        let inside = self.untracked_inside(path)?;
        self.away.extend(inside.folders);
        let mut may = inside.free;
        for (child, seen) in inside.files {
            match self.view.ignored(child.as_bstr(), false) {
                Ok(true) if self.policy.overwrite_ignored => {
                    if self.movable(child.as_bstr(), &seen) {
                        self.file(child.as_bstr(), Some(Old { seen, ignored: true }), None);
                    }
                }
                Ok(true) => {
                    self.refuse(child.as_bstr(), Obstacle::Ignored);
                    may = false;
                }
                Ok(false) => {
                    self.refuse(child.as_bstr(), Obstacle::Folder);
                    may = false;
                }
                Err(reason) => {
                    self.unreadable(child.as_bstr(), reason);
                    may = false;
                }
            }
        }
        if may { self.put(path, None, new) } else { Ok(()) }
    }

    /// Whether an untracked file may be moved away, and as what.
    pub(super) fn may_overwrite(&mut self, path: &BStr, seen: &Seen) -> Option<Old> {
        match self.view.ignored(path, false) {
            Ok(true) if self.policy.overwrite_ignored => {
                return self.movable(path, seen).then_some(Old { seen: *seen, ignored: true });
            }
            Ok(true) => self.refuse(path, Obstacle::Ignored),
            Ok(false) => self.refuse(path, Obstacle::Untracked),
            Err(reason) => self.unreadable(path, reason),
        }
        None
    }

    /// An untracked file where a folder has to be.
    pub(super) fn give_way(&mut self, path: &BStr) -> Result<bool, Error> {
        // It is planned already: another path lies below it, too.
        if self.files.contains_key(path) {
            return Ok(true);
        }
        if self.index.entry_by_path_and_stage(path, Stage::Unconflicted).is_some() {
            // Its own row of the table has spoken, or `kept_in_the_way` will.
            return Ok(false);
        }
        if self.index.prefixed_entries(slashed(path).as_bstr()).is_some_and(|all| !all.is_empty()) {
            self.refuse(path, Obstacle::ParentIsNoFolder);
            return Ok(false);
        }
        let Some(seen) = self.view.look(path)? else { return Ok(true) };
        let Some(old) = self.may_overwrite(path, &seen) else { return Ok(false) };
        self.file(path, Some(old), None);
        Ok(true)
    }

    /// What is in a folder besides what the index has.
    pub(super) fn untracked_inside(&mut self, folder: &BStr) -> Result<Inside, Error> {
        let mut inside = Inside { free: true, files: Vec::new(), folders: Vec::new() };
        let mut left = vec![folder.to_owned()];
        while let Some(folder) = left.pop() {
            if let Some(seen) = self.view.look(folder.as_bstr())? {
                inside.folders.push((folder.clone(), seen.mode));
            }
            for name in self.view.list(folder.as_bstr())? {
                let mut path = folder.clone();
                path.push(b'/');
                path.extend_from_slice(&name);
                let Some(seen) = self.view.look(path.as_bstr())? else { continue };
                if name.eq_ignore_ascii_case(b".git") {
                    self.refuse(folder.as_bstr(), Obstacle::Folder);
                    inside.free = false;
                } else if self
                    .index
                    .entry_by_path_and_stage(path.as_bstr(), Stage::Unconflicted)
                    .is_some()
                {
                    inside.free &= self.leaving.contains(&path);
                } else if seen.is_folder() {
                    left.push(path);
                } else {
                    inside.files.push((path, seen));
                }
            }
        }
        if !inside.free {
            self.refuse(folder, Obstacle::Folder);
        }
        Ok(inside)
    }
}
