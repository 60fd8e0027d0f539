//! The index: read with its time, changed in memory, written whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use filetime::FileTime;
use gix::bstr::{BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Flags, Stat};
use gix::index::extension::Tree;

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
    /// Kept open, so that no other file gets its inode.
    opened: Option<(File, Stamp)>,
}

/// What tells one file from the next of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Index {
    /// Whether the file of this path is the one that was read. Git never writes into an index, but
    /// puts another in its place.
    pub fn is_still(&self, path: &Path) -> bool {
        let now = std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta));
        self.path == path && now == self.opened.as_ref().map(|(_, stamp)| *stamp)
    }
}

/// Reads the index without putting a split one together.
pub(super) fn read(repo: &gix::Repository) -> Result<Index, Error> {
    let path = repo.index_path();
    let hash = repo.object_hash();
    let opened = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let state = State::new(hash);
            return Ok(Index { state, path, existed: false, split: false, opened: None });
        }
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let io = |source| Error::io("read", &path, source);
    let meta = opened.metadata().map_err(io)?;
    let time = FileTime::from_last_modification_time(&meta);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &opened, &mut bytes).map_err(io)?;
    let options = gix::index::decode::Options { thread_limit: Some(1), ..Default::default() };
    let (state, checksum) = State::from_bytes(&bytes, time, hash, options)
        .doing(|| format!("the index `{}` cannot be read", path.display()))?;
    if let Some(expected) = checksum {
        verify(&bytes, expected, &path)?;
    }
    let split = state.link().is_some();
    let opened = Some((opened, Stamp::of(&meta)));
    Ok(Index { state, path, existed: true, split, opened })
}

fn verify(bytes: &[u8], expected: gix::ObjectId, path: &Path) -> Result<(), Error> {
    let body = &bytes[..bytes.len().saturating_sub(expected.as_bytes().len())];
    if checksum(body, expected.kind())? == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Git, format!("the index `{}` is damaged", path.display()))
        .remedy("remove it, then make it anew with `git reset`"))
}

fn checksum(bytes: &[u8], kind: gix::hash::Kind) -> Result<gix::ObjectId, Error> {
    let mut hasher = gix::hash::hasher(kind);
    hasher.update(bytes);
    hasher.try_finalize().map_err(|source| {
        Error::new(ErrorKind::Git, "the checksum of the index cannot be told").caused_by(source)
    })
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

/// The bytes of an index, in git's format, with this note of its trees.
pub(super) fn bytes(
    repo: &gix::Repository,
    state: &State,
    trees: Option<&Tree>,
) -> Result<Vec<u8>, Error> {
    let failed = || "the index cannot be written".to_owned();
    let extensions = gix::index::write::Extensions::None;
    let options = gix::index::write::Options { extensions, ..Default::default() };
    let mut bytes = Vec::with_capacity(room(state, trees));
    state.write_to(&mut bytes, options).doing(failed)?;
    if let Some(trees) = trees {
        trees
            .write_to(&mut bytes)
            .map_err(|source| Error::new(ErrorKind::Git, failed()).caused_by(source))?;
    }
    let skip_hash = repo.config_snapshot().boolean("index.skipHash").unwrap_or(false);
    let checksum = if skip_hash {
        gix::ObjectId::null(repo.object_hash())
    } else {
        checksum(&bytes, repo.object_hash())?
    };
    bytes.extend_from_slice(checksum.as_bytes());
    Ok(bytes)
}

/// How many bytes an index takes at most.
pub(super) fn room(state: &State, trees: Option<&Tree>) -> usize {
    let entries: usize = state.entries().iter().map(|entry| ENTRY + entry.path(state).len()).sum();
    HEADER + entries + trees.map_or(0, room_of) + state.object_hash().len_in_bytes()
}

/// Version and number of the entries, and the heads of two extensions.
const HEADER: usize = 12 + 2 * 8;
/// What an entry takes beside its path, as gitformat-index(5) has it: its numbers, the longest id,
/// its flags, and what fills it up to eight bytes.
const ENTRY: usize = 40 + 32 + 4 + 8;

fn room_of(trees: &Tree) -> usize {
    // Two numbers, what ends them and the name, and the longest id.
    trees.name.len() + 2 * 10 + 3 + 32 + trees.children.iter().map(room_of).sum::<usize>()
}
