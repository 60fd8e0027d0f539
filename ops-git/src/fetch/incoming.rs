//! Where a pack lies until it is whole: in a folder beside the packs, which git does not read.
//!
//! A fetch that fails takes the folder away; what a killed one left is taken away by the next.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::error::Error;
use crate::presence;
use crate::refs;

const PREFIX: &str = "ops-git-incoming-";

/// A younger folder may belong to somebody who has not locked it yet.
const YOUNG: Duration = Duration::from_mins(1);

/// A folder for one pack.
pub(super) struct Incoming {
    folder: TempDir,
    objects: PathBuf,
    /// Tells that its owner lives.
    _lock: File,
}

impl Incoming {
    pub(super) fn begin(repo: &gix::Repository) -> Result<Self, Error> {
        let objects = repo.objects.store_ref().path().to_owned();
        let io = |source| Error::io("create a folder in", &objects, source);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&objects).map_err(io)?;
        let lock = File::open(folder.path()).map_err(io)?;
        lock.try_lock().map_err(|source| io(source.into()))?;
        Ok(Self { folder, objects, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a pack and its index among the others, durably. Answers the pack's size.
    pub(super) fn publish(self, pack: &Path, index: &Path) -> Result<u64, Error> {
        let packs = self.objects.join("pack");
        ops_core::fs::create_dir_durable(&packs)?;
        let size = pack.metadata().map_err(|source| Error::io("look at", pack, source))?.len();
        for file in [pack, index] {
            refs::sync_if_there(file)?;
        }
        ops_core::fault::point("git-pack-received");
        // git takes a pack for one when it sees its index: that one goes last.
        for file in [pack, index] {
            let name = file.file_name().unwrap_or_default();
            let to = packs.join(name);
            std::fs::rename(file, &to).map_err(|source| Error::io("move", file, source))?;
            ops_core::fault::point("git-pack-half-in-place");
        }
        refs::sync_if_there(&packs)?;
        ops_core::fault::point("git-pack-in-place");
        Ok(size)
    }
}

/// Takes away what killed fetches left. What cannot be taken away stays: it harms nobody.
pub(super) fn sweep(repo: &gix::Repository) {
    let Ok(entries) = repo.objects.store_ref().path().read_dir() else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_none_or(|age| age < YOUNG) {
            continue;
        }
        if let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            take_back(&entry.path(), &repo.objects.store_ref().path().join("pack"));
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A pack that got to its place without its index is nobody's.
fn take_back(folder: &Path, packs: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let index = packs.join(entry.file_name());
        let is_index = index.extension().is_some_and(|end| end == "idx");
        if is_index && matches!(presence::is_at(&index), Ok(false)) {
            let _ = std::fs::remove_file(index.with_extension("pack"));
        }
    }
}
