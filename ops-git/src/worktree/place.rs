//! The folder of one switch: what is on its way into the work tree and out of it, and the manifest
//! that says what is what.
//!
//! `new-N` is what comes to the N-th path, and after the exchange what was there; `old-N` is what
//! went without anything in its place; `stray-N` was in the way of going back. Until the manifest
//! is there nothing was moved, and everything here may be thrown away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gix::bstr::{BStr, BString};
use ops_core::{CommitId, OperationId};
use serde::{Deserialize, Serialize};

use super::head::HeadPosition;
use super::root::{Identity, Root};
use crate::error::{Error, ErrorKind};
use crate::path_bytes::PathBytes;
use crate::presence;

/// Where a git directory keeps what belongs to operations.
pub(crate) const FOLDER: &str = "ops-git";

/// From where to where a work tree goes: what a step knows before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Switch {
    pub old: Option<CommitId>,
    pub new: CommitId,
    pub head_from: HeadPosition,
    pub head_to: HeadPosition,
    pub overwrite_ignored: bool,
    /// Whether the index must hold nothing but what the old commit has, as for a merge commit.
    pub whole_index: bool,
}

/// One path of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub path: PathBytes,
    /// What was there.
    pub old: Option<OldFile>,
    /// What comes.
    pub new: Option<NewFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldFile {
    pub identity: Identity,
    pub size: u64,
    pub modified: i64,
    /// Its bytes are nowhere else.
    pub ignored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewFile {
    pub identity: Identity,
    /// The id that its bytes would have as a blob, after the filters.
    pub raw: String,
}

/// Everything that going back needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    pub files: Vec<Moved>,
    /// Folders that go, the deepest first, with their modes.
    pub folders_away: Vec<(PathBytes, u32)>,
    /// Folders that were not there, the outermost first.
    pub folders_new: Vec<PathBytes>,
    pub index_existed: bool,
}

const SCHEMA: u32 = 1;

impl Manifest {
    pub fn new() -> Self {
        Self {
            schema: SCHEMA,
            files: Vec::new(),
            folders_away: Vec::new(),
            folders_new: Vec::new(),
            index_existed: false,
        }
    }
}

/// The name, among what is on its way, of what comes to a path.
pub(super) fn new_name(number: usize) -> BString {
    format!("new-{number}").into()
}

/// The name of what went from a path where nothing comes.
pub(super) fn old_name(number: usize) -> BString {
    format!("old-{number}").into()
}

/// The folder of one switch.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub git_dir: PathBuf,
    /// Where all work trees of a repository save what is lost: their own folder may go.
    common_dir: PathBuf,
    pub folder: PathBuf,
    pub id: OperationId,
    key: String,
}

impl Place {
    pub fn of(repo: &gix::Repository, switch: &Switch, id: OperationId) -> Self {
        let digits =
            |commit: &CommitId| commit.as_str()[..12.min(commit.as_str().len())].to_owned();
        let old = switch.old.as_ref().map_or_else(|| "none".to_owned(), digits);
        let key = format!("{old}-{}", digits(&switch.new));
        let git_dir = repo.git_dir().to_owned();
        let folder = git_dir.join(FOLDER).join(id.to_string()).join(&key);
        let common_dir = repo.common_dir().to_owned();
        Self { git_dir, common_dir, folder, id, key }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The ref that keeps the old commit.
    pub fn keep(&self) -> gix::refs::FullName {
        gix::refs::FullName::try_from(format!("refs/ops-git/{}-{}", self.id, self.key))
            .expect("an operation's id and hexadecimal digits make a ref's name")
    }

    pub fn create(&self) -> Result<(), Error> {
        Ok(ops_core::fs::create_dir_durable(&self.folder)?)
    }

    pub fn root(&self) -> Result<Root, Error> {
        Root::open(&self.folder)
    }

    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        let path = self.file("manifest.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let unreadable = |what: &str| {
            Error::new(ErrorKind::Foreign, format!("`{}` {what}", path.display()))
                .remedy("recover with the program that wrote it")
        };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|source| unreadable("is no manifest of ours").caused_by(source))?;
        if manifest.schema > SCHEMA {
            return Err(unreadable("was written by a newer program"));
        }
        Ok(Some(manifest))
    }

    pub fn write(&self, manifest: &Manifest) -> Result<(), Error> {
        let bytes = serde_json::to_vec(manifest).map_err(|source| {
            Error::new(ErrorKind::Io, "the manifest cannot be written").caused_by(source)
        })?;
        Ok(ops_core::fs::atomic_write(&self.file("manifest.json"), &bytes)?)
    }

    pub fn is_done(&self) -> bool {
        self.file("done").exists()
    }

    pub fn mark_done(&self) -> Result<(), Error> {
        Ok(ops_core::fs::atomic_write(&self.file("done"), b"")?)
    }

    /// Takes the folder away. The manifest goes first: without it nothing else counts.
    pub fn clear(&self) -> Result<(), Error> {
        if presence::is_at(&self.folder)? {
            ops_core::fs::remove_file_durable(&self.file("manifest.json"))?;
            ops_core::fault::point("git-checkout-manifest-removed");
            super::lock::release(&self.git_dir, &self.file("lock"), self.id)?;
            ops_core::fs::remove_dir_durable(&self.folder)?;
        }
        // Those of other switches of the operation, and of saved files, stay.
        for folder in self.folder.ancestors().skip(1).take(2) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Saves something of the user's that lies here under the path that it had.
    pub fn save(&self, root: &Root, name: &BStr, path: &BStr) -> Result<(), Error> {
        let lost = self.lost();
        let mut to = lost.join(crate::path_bytes::on_disk(path));
        let mut number = 0;
        while to.symlink_metadata().is_ok() {
            number += 1;
            let mut numbered = path.to_vec();
            numbered.extend_from_slice(format!(".{number}").as_bytes());
            to = lost.join(crate::path_bytes::on_disk(&numbered));
        }
        // What was saved before may be a file where a folder is needed now.
        if let Some(folder) = to.parent()
            && ops_core::fs::create_dir_durable(folder).is_err()
        {
            to = lost.join(format!("{}-{}", self.key, crate::path_bytes::on_disk(name).display()));
        }
        tracing::warn!(saved = %to.display(), "bytes of neither version were saved");
        Ok(ops_core::fs::rename_noreplace(&root.at(name), &to)?)
    }

    pub fn lost(&self) -> PathBuf {
        self.common_dir.join(FOLDER).join("lost").join(self.id.to_string())
    }

    /// What was saved by this operation, at most a thousand paths.
    pub fn saved(&self) -> Vec<PathBytes> {
        let mut found = Vec::new();
        let mut left = vec![self.lost()];
        while let Some(folder) = left.pop() {
            for entry in folder.read_dir().into_iter().flatten().flatten() {
                let path = entry.path();
                if found.len() >= 1000 {
                    return found;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(path);
                } else {
                    found.push(PathBytes::from(&*path));
                }
            }
        }
        found.sort();
        found
    }
}

/// A switch of a work tree that somebody left half done.
pub(crate) fn interrupted(git_dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = Vec::new();
    for folder in presence::list(&git_dir.join(FOLDER))? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.parse::<OperationId>().is_err() {
            continue;
        }
        for inner in presence::list(&folder)? {
            if presence::is_at(&inner.join("manifest.json"))? {
                found.push((name, folder));
                break;
            }
        }
    }
    Ok(found)
}
