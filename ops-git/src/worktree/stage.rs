//! Writing what is to come into the operation's own folder, before anything moves.

use std::io::Write as _;

use gix::bstr::ByteSlice as _;
use gix::objs::tree::EntryKind;
use ops_core::StepContext;
use ops_core::progress::Update;

use super::look::blob_id;
use super::place::{Manifest, Moved, NewFile, OldFile, Place, new_name};
use super::prepare::{NewRules, Prepared};
use super::root::Root;
use super::two_way::{Cell, Kind};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::export::{Entry, Rules};
use crate::path_bytes::{PathBytes, on_disk};

/// From how many files on one call makes the whole file system durable.
const MANY: usize = 64;

/// Writes every new file and link, filtered, and says what it wrote. Needs the memory of the
/// largest file, twice if a filter changes it.
pub(super) fn stage(
    repo: &gix::Repository,
    place: &Place,
    slots: &Root,
    prepared: &Prepared,
    cx: &StepContext,
) -> Result<Manifest, Error> {
    let transitions = &prepared.transitions;
    let mut manifest = Manifest::new();
    manifest.index_existed = prepared.index.existed;
    let bytes = |path: &gix::bstr::BString| PathBytes::new(path);
    manifest.folders_away =
        transitions.folders_away.iter().map(|(path, mode)| (bytes(path), *mode)).collect();
    manifest.folders_new = transitions.folders_new.iter().map(bytes).collect();
    let mut rules = NewRules::new(repo, &prepared.next, transitions)?;
    let total = transitions.files.len();
    let many = total > MANY;
    for (number, file) in transitions.files.iter().enumerate() {
        if cx.cancellation().is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the checkout was asked to end"));
        }
        let new = match file.new {
            Some(cell) => Some(one(
                repo,
                place,
                slots,
                rules.at(file.path.as_ref()),
                (number, &file.path, cell),
                many,
            )?),
            None => None,
        };
        let old = file.old.map(|old| OldFile {
            identity: old.seen.identity,
            size: old.seen.size,
            modified: old.seen.modified,
            ignored: old.ignored,
        });
        manifest.files.push(Moved { path: bytes(&file.path), old, new });
        if number == total / 2 {
            cx.fault_point("git-checkout-half-staged");
        }
        let done = number as u64 + 1;
        cx.context().progress().update(&Update::items("staging files", done, Some(total as u64)));
    }
    if many {
        slots.sync_all()?;
    }
    Ok(manifest)
}

fn one(
    repo: &gix::Repository,
    place: &Place,
    slots: &Root,
    rules: &mut Rules<'_>,
    (number, path, cell): (usize, &gix::bstr::BString, Cell),
    many: bool,
) -> Result<NewFile, Error> {
    let doing = || format!("the content of `{path}` cannot be read");
    let blob = repo.find_blob(cell.id).doing(doing)?;
    if blob_id(repo, &blob.data)? != cell.id {
        return Err(Error::new(ErrorKind::Git, doing())
            .with("object", cell.id)
            .remedy("the object is damaged: restore it from another clone"));
    }
    let name = new_name(number);
    let at = place.folder.join(on_disk(&name));
    let io = |source| Error::io("write", &at, source);
    let raw = if cell.kind == Kind::Link {
        std::os::unix::fs::symlink(on_disk(&blob.data), &at).map_err(io)?;
        cell.id
    } else {
        let executable = cell.kind == Kind::Executable;
        let kind = if executable { EntryKind::BlobExecutable } else { EntryKind::Blob };
        let entry = Entry { path: path.clone(), id: cell.id, kind };
        let content = rules.filtered(&entry, &blob.data, |content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(io)?;
            Ok(bytes)
        })?;
        // The umask takes its part, as it does for git.
        let mode = if executable { 0o777 } else { 0o666 };
        let mut file = slots.create(name.as_bstr(), mode)?;
        file.write_all(&content).map_err(io)?;
        if !many {
            file.sync_all().map_err(io)?;
        }
        if content == blob.data { cell.id } else { blob_id(repo, &content)? }
    };
    let seen = slots
        .look(name.as_bstr())?
        .ok_or_else(|| Error::new(ErrorKind::Io, format!("`{}` is gone again", at.display())))?;
    Ok(NewFile { identity: seen.identity, raw: raw.to_string() })
}
