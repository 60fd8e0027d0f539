//! Where the journals lie: `open/` while an operation is not closed and reported, then `closed/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::operation_id::OperationId;

/// No journal takes so long to get its name.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

/// The journals of one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn of(state_dir: &Path) -> Self {
        Self { root: state_dir.join("journals") }
    }

    pub fn open_path(&self, id: OperationId) -> PathBuf {
        self.root.join("open").join(format!("{id}.jsonl"))
    }

    pub fn closed_path(&self, id: OperationId) -> PathBuf {
        self.root.join("closed").join(format!("{id}.jsonl"))
    }

    /// Removes what processes left that died before their journal had its name: nothing was begun.
    pub fn sweep(&self) -> Result<(), Error> {
        crate::fs::sweep_temporaries(&self.root.join("open"), LEFT_BEHIND).map(drop)
    }

    /// The journals that are not closed and reported, oldest first.
    pub fn open(&self) -> Result<Vec<(OperationId, PathBuf)>, Error> {
        list(&self.root.join("open"))
    }

    /// The journals of operations that have ended, oldest first.
    pub fn closed(&self) -> Result<Vec<(OperationId, PathBuf)>, Error> {
        list(&self.root.join("closed"))
    }

    /// Puts a closed journal away.
    pub fn put_away(&self, id: OperationId) -> Result<(), Error> {
        let to = self.closed_path(id);
        if let Some(folder) = to.parent() {
            crate::fs::create_dir_durable(folder)?;
        }
        crate::fs::rename_durable(&self.open_path(id), &to)
    }
}

fn list(folder: &Path) -> Result<Vec<(OperationId, PathBuf)>, Error> {
    let failed = |source| Error::io("list the journals in", folder, source);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let id = path.extension().filter(|e| *e == "jsonl").and_then(|_| path.file_stem());
        if let Some(id) = id.and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()) {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals)
}
