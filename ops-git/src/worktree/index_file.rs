//! The index: read with its time, changed in memory, written whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use filetime::FileTime;
use gix::bstr::{BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Flags, Stat};

use super::two_way::Cell;
use crate::error::{Error, ErrorKind, GitResult as _};

/// The index as it is on disk.
pub(super) struct Index {
    pub state: State,
    pub path: PathBuf,
    /// Whether there is one; a clone without a checkout has none.
    pub existed: bool,
    /// Whether a part of it lies in another file.
    pub split: bool,
}

/// Reads the index without putting a split one together.
pub(super) fn read(repo: &gix::Repository) -> Result<Index, Error> {
    let path = repo.index_path();
    let hash = repo.object_hash();
    let opened = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Index { state: State::new(hash), path, existed: false, split: false });
        }
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let io = |source| Error::io("read", &path, source);
    let time = FileTime::from_last_modification_time(&opened.metadata().map_err(io)?);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &opened, &mut bytes).map_err(io)?;
    let (state, checksum) =
        State::from_bytes(&bytes, time, hash, gix::index::decode::Options::default())
            .doing(|| format!("the index `{}` cannot be read", path.display()))?;
    if let Some(expected) = checksum {
        verify(&bytes, expected, &path)?;
    }
    let split = state.link().is_some();
    Ok(Index { state, path, existed: true, split })
}

fn verify(bytes: &[u8], expected: gix::ObjectId, path: &Path) -> Result<(), Error> {
    let body = &bytes[..bytes.len().saturating_sub(expected.as_bytes().len())];
    let mut hasher = gix::hash::hasher(expected.kind());
    hasher.update(body);
    let found = hasher.try_finalize().map_err(|source| {
        Error::new(ErrorKind::Git, "the checksum of the index cannot be told").caused_by(source)
    })?;
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Git, format!("the index `{}` is damaged", path.display()))
        .remedy("remove it, then make it anew with `git reset`"))
}

/// The index with these changes; what is new has no stat yet.
pub(super) fn changed(old: &State, changes: &BTreeMap<BString, Option<Cell>>) -> State {
    let mut new = old.clone();
    // It says which trees the index would make, and is about to be wrong.
    new.remove_tree();
    new.remove_resolve_undo();
    new.remove_entries(|_, path, _| changes.contains_key(path));
    for (path, cell) in changes {
        if let Some(cell) = cell {
            let mode = cell.kind.mode();
            new.dangerously_push_entry(
                Stat::default(),
                cell.id,
                Flags::empty(),
                mode,
                path.as_bstr(),
            );
        }
    }
    new.sort_entries();
    new
}

/// The bytes of an index, in git's format.
pub(super) fn bytes(repo: &gix::Repository, state: State) -> Result<Vec<u8>, Error> {
    let skip_hash = repo.config_snapshot().boolean("index.skipHash").unwrap_or(false);
    let options = gix::index::write::Options { skip_hash, ..Default::default() };
    let mut bytes = Vec::new();
    gix::index::File::from_state(state, repo.index_path())
        .write_to(&mut bytes, options)
        .doing(|| "the index cannot be written".into())?;
    Ok(bytes)
}
