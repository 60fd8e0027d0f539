//! Back: every path found in its old, its new or a half-done state, and put where it was.

use std::fs;
use std::io;

use gix::bstr::{BStr, BString, ByteSlice as _};
use ops_core::{StepContext, fault};

use super::forth::{Direction, move_head, settle};
use super::look::blob_id;
use super::place::{Manifest, Moved, Place, Switch, new_name, old_name};
use super::prepare::workdir;
use super::root::{Root, Seen, Shape, above};
use super::{head, lock};
use crate::error::{Error, ErrorKind};
use crate::path_bytes::PathBytes;
use crate::presence::inode;
use crate::refs;

/// Puts everything back to where it was before [`run`](super::forth::run), after whatever became of
/// that. Paths of files that were saved because they belong to neither side.
pub(crate) fn undo(
    repo: &gix::Repository,
    switch: &Switch,
    cx: &StepContext,
) -> Result<Vec<PathBytes>, Error> {
    let place = Place::of(repo, switch, cx.operation());
    let Some(manifest) = place.manifest()? else {
        // Nothing was moved.
        refs::remove_private(repo, &place.keep())?;
        place.clear()?;
        return Ok(place.saved());
    };
    head::unlock(repo, &place.file("head-forth"))?;
    head::unlock(repo, &place.file("head-back"))?;
    clear_branch_lock(repo, switch)?;
    lock::acquire(&place.git_dir, &place.file("lock"), place.id)?;
    fault::point("git-checkout-back-locked");

    let message = format!("ops-git: operation {} undone", place.id);
    move_head(repo, &place, switch, &message, Direction::Back)?;
    fault::point("git-checkout-back-pointed");
    index_back(repo, &place, &manifest)?;
    fault::point("git-checkout-back-index");
    let root = workdir(repo)?;
    let slots = place.root()?;
    Back { root: &root, slots: &slots, place: &place, manifest: &manifest }.files()?;
    settle(&root, &slots, &manifest)?;
    fault::point("git-checkout-back-moved");
    sweep(repo, &place, &slots, &manifest, Direction::Back)?;
    refs::remove_private(repo, &place.keep())?;
    place.clear()?;
    fault::point("git-checkout-back-cleared");
    Ok(place.saved())
}

/// After the commit: what is left of the old side goes; what the user had ignored is saved.
pub(crate) fn release(
    repo: &gix::Repository,
    switch: &Switch,
    cx: &StepContext,
) -> Result<(), Error> {
    let place = Place::of(repo, switch, cx.operation());
    if let Some(manifest) = place.manifest()? {
        sweep(repo, &place, &place.root()?, &manifest, Direction::Forth)?;
        fault::point("git-checkout-swept");
    }
    refs::remove_private(repo, &place.keep())?;
    place.clear()
}

fn clear_branch_lock(repo: &gix::Repository, switch: &Switch) -> Result<(), Error> {
    if let (head::HeadPosition::Branch { branch }, true) =
        (&switch.head_to, switch.head_to == switch.head_from)
    {
        let lines: Vec<_> =
            switch.old.iter().chain([&switch.new]).map(|id| format!("{id}\n")).collect();
        refs::clear_own_lock(repo, &branch.full(), &lines)?;
    }
    Ok(())
}

fn index_back(repo: &gix::Repository, place: &Place, manifest: &Manifest) -> Result<(), Error> {
    let index = repo.index_path();
    let (ours, old) = (place.file("index.ours"), place.file("index.old"));
    let (now, kept) = (inode(&index)?, inode(&old)?);
    let is_back = if manifest.index_existed {
        // Renamed into place, if its other name is gone: then this is being done again.
        kept.is_none() || now == kept
    } else {
        now.is_none()
    };
    if is_back {
        return Ok(ops_core::fs::sync_dir(&place.git_dir)?);
    }
    if now.is_some() && now != inode(&ours)? {
        // Somebody staged something since: it is theirs.
        let kept = place.lost().join("index");
        ops_core::fs::create_dir_durable(&place.lost())?;
        match fs::hard_link(&index, &kept) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("link", &kept, error));
            }
            _ => ops_core::fs::sync_dir(&place.lost())?,
        }
    }
    if manifest.index_existed {
        fs::rename(&old, &index).map_err(|source| Error::io("replace", &index, source))?;
    } else {
        ops_core::fs::remove_file_durable(&index)?;
    }
    Ok(ops_core::fs::sync_dir(&place.git_dir)?)
}

struct Back<'a> {
    root: &'a Root,
    slots: &'a Root,
    place: &'a Place,
    manifest: &'a Manifest,
}

impl Back<'_> {
    fn files(&self) -> Result<(), Error> {
        let all = || self.manifest.files.iter().enumerate();
        for (number, file) in all().rev().filter(|(_, file)| file.new.is_some()) {
            self.new_away(number, file)?;
            fault::point("git-checkout-back-file");
        }
        for folder in self.manifest.folders_new.iter().rev() {
            self.root.remove_folder(BStr::new(folder.as_bytes()))?;
        }
        fault::point("git-checkout-back-folders");
        for (folder, mode) in self.manifest.folders_away.iter().rev() {
            let folder = BStr::new(folder.as_bytes());
            let there = self.root.look(folder)?.is_some_and(|seen| seen.is_folder());
            if !there {
                self.make_way(folder)?;
                if self.root.look(folder)?.is_some() {
                    self.stray(folder)?;
                }
                self.root.make_folder(folder, *mode)?;
                self.root.set_mode(folder, *mode)?;
            }
        }
        for (number, file) in all().filter(|(_, file)| file.new.is_none()) {
            self.old_back(number, file)?;
            fault::point("git-checkout-back-file");
        }
        Ok(())
    }

    fn new_away(&self, number: usize, file: &Moved) -> Result<(), Error> {
        let Some(new) = &file.new else { return Ok(()) };
        let (name, path) = (new_name(number), BStr::new(file.path.as_bytes()));
        let name = name.as_bstr();
        let slot = self.slots.look(name)?;
        let there = self.root.look(path)?;
        let is_new = |seen: &Option<Seen>| seen.is_some_and(|seen| seen.identity == new.identity);
        // Not put into place, or taken out of it already.
        if is_new(&slot) {
            return Ok(());
        }
        let Some(old) = &file.old else {
            // Whatever is where nothing was comes here; what is not ours is saved from here.
            return match (slot, there) {
                (None, Some(_)) => self.root.rename(path, self.slots, name),
                _ => Ok(()),
            };
        };
        let is_old = |seen: &Option<Seen>| seen.is_some_and(|seen| seen.identity == old.identity);
        match (slot, there) {
            // The last exchange of an undo that was interrupted: here lies what is not ours.
            (Some(_), Some(_)) if is_old(&there) => Ok(()),
            (Some(_), None) => {
                self.make_way(path)?;
                self.slots.rename(name, self.root, path)
            }
            // What was captured was not what was looked at, and has to go back.
            (Some(_), Some(_)) if is_old(&slot) || is_new(&there) => {
                self.slots.exchange(name, self.root, path)
            }
            _ => Ok(()),
        }
    }

    fn old_back(&self, number: usize, file: &Moved) -> Result<(), Error> {
        let Some(old) = &file.old else { return Ok(()) };
        let (name, path) = (old_name(number), BStr::new(file.path.as_bytes()));
        let name = name.as_bstr();
        if self.slots.look(name)?.is_none() {
            return Ok(());
        }
        match self.root.look(path)? {
            Some(seen) if seen.identity == old.identity => Ok(()),
            Some(_) => self.slots.exchange(name, self.root, path),
            None => {
                self.make_way(path)?;
                self.slots.rename(name, self.root, path)
            }
        }
    }

    /// Makes the folders above a path, and moves away what is there in place of one.
    fn make_way(&self, path: &BStr) -> Result<(), Error> {
        for folder in above(path) {
            match self.root.look(folder)? {
                Some(seen) if seen.is_folder() => continue,
                Some(_) => self.stray(folder)?,
                None => {}
            }
            self.root.make_folder(folder, 0o777)?;
        }
        Ok(())
    }

    fn stray(&self, path: &BStr) -> Result<(), Error> {
        for number in 0.. {
            let name = BString::from(format!("stray-{number}"));
            if self.slots.look(name.as_bstr())?.is_none() {
                self.root.rename(path, self.slots, name.as_bstr())?;
                return self.place.save(self.slots, name.as_bstr(), path);
            }
        }
        Ok(())
    }
}

/// Saves whatever lies in the operation's folder and is neither side's: what is left then may go.
fn sweep(
    repo: &gix::Repository,
    place: &Place,
    slots: &Root,
    manifest: &Manifest,
    direction: Direction,
) -> Result<(), Error> {
    for (number, file) in manifest.files.iter().enumerate() {
        let path = BStr::new(file.path.as_bytes());
        for name in [new_name(number), old_name(number)] {
            let name = name.as_bstr();
            let Some(seen) = slots.look(name)? else { continue };
            if is_new(repo, slots, name, &seen, file)? {
                continue;
            }
            let is_old = file.old.as_ref().is_some_and(|old| {
                old.identity == seen.identity
                    && old.size == seen.size
                    && old.modified == seen.modified
            });
            let ignored = file.old.as_ref().is_some_and(|old| old.ignored);
            match direction {
                Direction::Forth if is_old && !ignored => {}
                Direction::Back if is_old => {
                    return Err(Error::new(
                        ErrorKind::Io,
                        format!("`{path}` is not back in its place"),
                    )
                    .remedy("recover again; the file is in the folder `.git/ops-git`"));
                }
                _ => place.save(slots, name, path)?,
            }
        }
    }
    for number in 0.. {
        let name = BString::from(format!("stray-{number}"));
        if slots.look(name.as_bstr())?.is_none() {
            break;
        }
        place.save(slots, name.as_bstr(), name.as_bstr())?;
    }
    Ok(())
}

/// Whether this is what was staged for the path, with the bytes that were staged.
fn is_new(
    repo: &gix::Repository,
    slots: &Root,
    name: &BStr,
    seen: &Seen,
    file: &Moved,
) -> Result<bool, Error> {
    let Some(new) = &file.new else { return Ok(false) };
    if seen.identity != new.identity || !matches!(seen.shape, Shape::File { .. } | Shape::Link) {
        return Ok(false);
    }
    let bytes = slots.read(name, seen.shape)?;
    let raw = gix::ObjectId::from_hex(new.raw.as_bytes()).ok();
    Ok(raw == Some(blob_id(repo, &bytes)?))
}
