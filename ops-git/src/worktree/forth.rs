//! Forward: stage, note, exchange, write the index, move `HEAD`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::Stage;
use gix::index::extension::Tree;
use ops_core::{OperationId, Refusal, StepContext};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::browse::Browser;
use super::index_file::{self, Index};
use super::look::Look;
use super::memo::Memo;
use super::place::{Manifest, Place, Switch, new_name, old_name};
use super::planner::Transition;
use super::prepare::{Prepared, expect_head, prepare, tree_of, workdir};
use super::root::{Root, Seen, split};
use super::stage::stage;
use super::{back, cache_tree, head, lock};
use crate::error::{Error, ErrorKind};
use crate::id::object_id;
use crate::refs::{self, Move};

/// Every reason against a switch, before anything starts.
pub(crate) fn check(
    repo: &gix::Repository,
    switch: &Switch,
    memo: &Memo,
) -> Result<Vec<Refusal>, Error> {
    let mut reasons = Vec::new();
    if let Err(error) = expect_head(repo, switch) {
        reasons.push(Refusal::new(error.to_string(), "plan afresh"));
        return Ok(reasons);
    }
    let root = workdir(repo)?;
    reasons.extend(prepare(repo, &root, switch, memo)?.blockers.into_iter().map(Refusal::from));
    Ok(reasons)
}

/// Makes work tree, index and `HEAD` those of another commit.
pub(crate) fn run(
    repo: &gix::Repository,
    switch: &Switch,
    cx: &StepContext,
    memo: &Memo,
) -> Result<(), Error> {
    let id = cx.operation();
    let place = Place::of(repo, switch, id);
    if place.manifest()?.is_some() {
        if place.is_done() {
            let (position, commit) = head::now(repo)?;
            if position == switch.head_to && commit.as_ref() == Some(&switch.new) {
                return Ok(());
            }
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the same checkout twice in one operation, with another between",
            )
            .remedy("make two operations of it"));
        }
        back::undo(repo, switch, cx)?;
    }
    place.clear()?;
    place.create()?;
    lock::acquire(&place.git_dir, &place.file("lock"), id)?;
    cx.fault_point("git-checkout-locked");

    // Seen again under the lock: what the plan saw may have changed since.
    expect_head(repo, switch)?;
    let root = workdir(repo)?;
    let prepared = prepare(repo, &root, switch, memo)?;
    if !prepared.blockers.is_empty() {
        let reasons = prepared.blockers.into_iter().map(Refusal::from).collect();
        return Err(Error::refused("the work tree cannot be switched", reasons));
    }
    let slots = place.root()?;
    let manifest = stage(repo, &place, &slots, &prepared, cx)?;
    keep_index(&place, &prepared)?;
    // As large as the index that comes: a full disk shows now.
    let trees = noted_trees(repo, switch, &prepared)?;
    reserve(&place.file("index.new"), index_file::room(&prepared.next, trees.as_ref()))?;
    keep_commit(repo, &place, switch)?;
    ops_core::fs::sync_dir(&place.folder)?;
    cx.fault_point("git-checkout-staged");
    place.write(&manifest)?;
    cx.fault_point("git-checkout-noted");

    files(repo, &root, &slots, &prepared, cx)?;
    settle(&root, &slots, &manifest)?;
    cx.fault_point("git-checkout-moved");
    write_index(repo, &root, &place, &prepared, trees.as_ref())?;
    cx.fault_point("git-checkout-index");
    point(repo, &place, switch, id)?;
    cx.fault_point("git-checkout-pointed");
    place.mark_done()?;
    lock::release(&place.git_dir, &place.file("lock"), id)?;
    cx.fault_point("git-checkout-done");
    Ok(())
}

fn keep_index(place: &Place, prepared: &Prepared) -> Result<(), Error> {
    if !prepared.index.existed {
        return Ok(());
    }
    // A second name of the very file keeps bytes and time, by which git tells what is fresh.
    let old = place.file("index.old");
    fs::hard_link(&prepared.index.path, &old).map_err(|source| Error::io("link", &old, source))
}

/// What the next index notes of its trees, if it becomes what the new commit has.
fn noted_trees(
    repo: &gix::Repository,
    switch: &Switch,
    prepared: &Prepared,
) -> Result<Option<Tree>, Error> {
    let before = prepared.index.existed.then_some(&prepared.index.state);
    let tree = |id| tree_of(repo, object_id(id)?);
    let old = switch.old.as_ref().map(tree).transpose()?;
    cache_tree::carried(repo, before, (old, tree(&switch.new)?), &prepared.next)
}

/// Makes a file for so many bytes.
fn reserve(path: &Path, bytes: usize) -> Result<(), Error> {
    let io = |source| Error::io("reserve room for", path, source);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
    let length = bytes as u64;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        // A file system that cannot reserve has to be written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(0).take(length), &mut file)
                .and_then(|_| file.sync_all())
                .map_err(io)
        }
        Err(errno) => Err(io(errno.into())),
    }
}

/// Else a collection of garbage could take the old commit while the way back needs it.
fn keep_commit(repo: &gix::Repository, place: &Place, switch: &Switch) -> Result<(), Error> {
    let Some(old) = &switch.old else { return Ok(()) };
    let message = format!("ops-git: operation {}", place.id);
    let to = Some(object_id(old)?);
    match refs::tip(repo, &place.keep())? {
        None => refs::apply(repo, &[Move { name: place.keep(), from: None, to, message }]),
        Some(_) => refs::make_durable(repo, std::iter::once(&place.keep())),
    }
}

fn files(
    repo: &gix::Repository,
    root: &Root,
    slots: &Root,
    prepared: &Prepared,
    cx: &StepContext,
) -> Result<(), Error> {
    let all = &prepared.transitions.files;
    let mut check = Captured { repo, root, slots, index: &prepared.index, look: None };
    // What goes makes room for what comes: files first, the innermost first, then folders.
    for (number, file) in all.iter().enumerate().rev().filter(|(_, file)| file.new.is_none()) {
        cancelled(cx)?;
        if file.old.is_some() {
            let name = old_name(number);
            root.rename(file.path.as_bstr(), slots, name.as_bstr())?;
            cx.fault_point("git-checkout-file-taken");
            if !check.is_old(file, name.as_bstr())? {
                slots.rename(name.as_bstr(), root, file.path.as_bstr())?;
                return Err(changed(file));
            }
        }
    }
    for (folder, _) in &prepared.transitions.folders_away {
        root.remove_folder(folder.as_bstr())?;
    }
    cx.fault_point("git-checkout-folders-removed");
    for folder in &prepared.transitions.folders_new {
        root.make_folder(folder.as_bstr(), 0o777)?;
    }
    cx.fault_point("git-checkout-folders-made");
    for (number, file) in all.iter().enumerate().filter(|(_, file)| file.new.is_some()) {
        cancelled(cx)?;
        let name = new_name(number);
        if file.old.is_none() {
            slots.rename(name.as_bstr(), root, file.path.as_bstr())?;
        } else {
            slots.exchange(name.as_bstr(), root, file.path.as_bstr())?;
            cx.fault_point("git-checkout-file-exchanged");
            if !check.is_old(file, name.as_bstr())? {
                slots.exchange(name.as_bstr(), root, file.path.as_bstr())?;
                return Err(changed(file));
            }
        }
        cx.fault_point("git-checkout-file-put");
    }
    Ok(())
}

fn cancelled(cx: &StepContext) -> Result<(), Error> {
    if cx.cancellation().is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "the checkout was asked to end"));
    }
    Ok(())
}

fn changed(file: &Transition) -> Error {
    Error::new(ErrorKind::Moved, format!("`{}` changed in this very moment", file.path))
        .remedy("let whatever writes there come to rest, then try again")
}

/// Says whether what was captured by a move is what was looked at before it.
struct Captured<'a> {
    repo: &'a gix::Repository,
    root: &'a Root,
    slots: &'a Root,
    index: &'a Index,
    look: Option<Look<'a>>,
}

/// A file whose last change is older than this cannot have changed again within the same tick of
/// the file system's clock.
const TICK: i64 = 2_000_000_000;

impl Captured<'_> {
    fn is_old(&mut self, file: &Transition, name: &BStr) -> Result<bool, Error> {
        let Some(old) = &file.old else { return Ok(true) };
        // Ignored bytes are kept whatever they are.
        if old.ignored {
            return Ok(true);
        }
        let Some(seen) = self.slots.look(name)? else { return Ok(false) };
        if !seen.unmodified_since(&old.seen) {
            return Ok(false);
        }
        if age(&seen) > TICK {
            return Ok(true);
        }
        let state = &self.index.state;
        let path = file.path.as_bstr();
        let Some(entry) = state.entry_by_path_and_stage(path, Stage::Unconflicted) else {
            return Ok(false);
        };
        let bytes = self.slots.read(name, seen.shape)?;
        let look = match &mut self.look {
            Some(look) => look,
            none => none.insert(Look::new(self.repo, self.root, state)?),
        };
        look.same_content(path, seen.shape, &bytes, entry)
    }
}

fn age(seen: &Seen) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.ok().and_then(|now| i64::try_from(now.as_nanos()).ok()).unwrap_or(0);
    now.saturating_sub(seen.modified)
}

/// From how many folders on one call makes the whole file system durable. That waits for whatever
/// else was written there, which on a busy disk takes longer than some hundred folders do.
const MANY_FOLDERS: usize = 1_000;

/// Makes durable what moved: every folder that a name came into or went from.
pub(super) fn settle(root: &Root, slots: &Root, manifest: &Manifest) -> Result<(), Error> {
    let mut folders = std::collections::BTreeSet::<BString>::new();
    let files = manifest.files.iter().map(|file| &file.path);
    let others = manifest.folders_away.iter().map(|(path, _)| path);
    for path in files.chain(others).chain(&manifest.folders_new) {
        let (folder, _) = split(BStr::new(path.as_bytes()));
        if !folders.contains(folder) {
            folders.insert(folder.to_owned());
        }
    }
    if folders.len() > MANY_FOLDERS {
        return root.sync_all();
    }
    for folder in folders {
        root.sync_folder(folder.as_bstr())?;
    }
    slots.sync_folder(BStr::new(""))
}

fn write_index(
    repo: &gix::Repository,
    root: &Root,
    place: &Place,
    prepared: &Prepared,
    trees: Option<&Tree>,
) -> Result<(), Error> {
    let bytes = index_file::bytes(repo, &stats(repo, root, prepared)?, trees)?;
    let path = place.file("index.new");
    overwrite(&path, &bytes).map_err(|source| Error::io("write", &path, source))?;
    // By this second name the index is known as ours when the way back finds it.
    let ours = place.file("index.ours");
    fs::hard_link(&path, &ours).map_err(|source| Error::io("link", &ours, source))?;
    ops_core::fs::sync_dir(&place.folder)?;
    ops_core::fault::point("git-checkout-index-written");
    let index = &prepared.index.path;
    fs::rename(&path, index).map_err(|source| Error::io("replace", index, source))?;
    Ok(ops_core::fs::sync_dir(&place.git_dir)?)
}

/// In place, so that a disk that is full by now has nothing to refuse.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// The next index with the stats of what is in place now.
fn stats(repo: &gix::Repository, root: &Root, prepared: &Prepared) -> Result<State, Error> {
    let mut next = prepared.next.clone();
    let mut look = Look::new(repo, root, &prepared.index.state)?;
    let mut browser = Browser::new(root);
    let mut fresh = Vec::new();
    let mut racy = Vec::new();
    for (number, entry) in next.entries().iter().enumerate() {
        let path = entry.path(&next);
        if prepared.transitions.index.contains_key(path) {
            let seen = browser.look(path)?.filter(|seen| !seen.is_folder());
            fresh.extend(seen.map(|seen| (number, seen.stat())));
        } else if look.is_racy(entry)
            && look.same_stat(path, entry)
            && !matches!(super::planner::View::unchanged(&mut look, path, entry), Ok(true))
        {
            // Its file was changed within the second of the old index. That index's own time told
            // git to look; the new one's would not, so the entry has to say it itself, as git does.
            racy.push(number);
        }
    }
    let entries = next.entries_mut();
    for (number, stat) in fresh {
        entries[number].stat = stat;
    }
    for number in racy {
        entries[number].stat.size = 0;
    }
    Ok(next)
}

fn point(
    repo: &gix::Repository,
    place: &Place,
    switch: &Switch,
    id: OperationId,
) -> Result<(), Error> {
    let message = if switch.head_from == switch.head_to {
        format!("ops-git: operation {id}")
    } else {
        head::message(&switch.head_from, &switch.head_to)
    };
    move_head(repo, place, switch, &message, Direction::Forth)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forth,
    Back,
}

/// Moves `HEAD`, or the branch that it stays on. Done already is fine.
pub(super) fn move_head(
    repo: &gix::Repository,
    place: &Place,
    switch: &Switch,
    message: &str,
    direction: Direction,
) -> Result<(), Error> {
    let (old, new) = (switch.old.as_ref(), Some(&switch.new));
    let ((from, to), (before, after), name) = match direction {
        Direction::Forth => ((&switch.head_from, &switch.head_to), (old, new), "head-forth"),
        Direction::Back => ((&switch.head_to, &switch.head_from), (new, old), "head-back"),
    };
    let (position, commit) = head::now(repo)?;
    if position == *to && commit.as_ref() == after {
        // A run that was killed may not have come to that.
        if let head::HeadPosition::Branch { branch } = to {
            refs::make_durable(repo, std::iter::once(&branch.full()))?;
        }
        return Ok(ops_core::fs::sync_dir(repo.git_dir())?);
    }
    match (from, to) {
        (head::HeadPosition::Branch { branch }, head::HeadPosition::Branch { branch: other })
            if branch == other =>
        {
            if position != *from {
                return Err(Error::new(ErrorKind::Moved, format!("HEAD is on {position}"))
                    .remedy("find out who moved it; then move it by hand to where it belongs"));
            }
            let (from, to) =
                (before.map(object_id).transpose()?, after.map(object_id).transpose()?);
            let message = message.to_owned();
            refs::apply(repo, &[Move { name: branch.full(), from, to, message }])?;
        }
        _ => head::point(repo, &place.file(name), from, to)?,
    }
    head::log(repo, (before, after), message)
}
