//! The lock of the index, which keeps every git away while the work tree changes.
//!
//! It is a second name of a file in the operation's own folder that says whose it is. So it
//! appears whole, and after a crash it is known as ours by its content and inode.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ops_core::{Class, OperationId};

use super::head::{remove_if_same, write_durably};
use super::place::FOLDER;
use crate::error::{Error, ErrorKind};
use crate::lock_file::{LockFile, MARK, operation};
use crate::presence;

/// How long to wait for another git: a status that refreshes the index holds it for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);

pub(super) fn path(git_dir: &Path) -> PathBuf {
    git_dir.join("index.lock")
}

/// Takes the lock for this operation, or finds that it has it. A lock of another operation of ours
/// is left from a crash if nothing of that operation is there any more; it goes.
pub(super) fn acquire(git_dir: &Path, ours: &Path, id: OperationId) -> Result<(), Error> {
    let lock = path(git_dir);
    if operation(&lock).is_some_and(|holder| holder == id.to_string()) {
        return Ok(());
    }
    write_durably(ours, format!("{MARK}{id}\n").as_bytes())?;
    let begun = Instant::now();
    loop {
        match fs::hard_link(ours, &lock) {
            Ok(()) => return Ok(ops_core::fs::sync_dir(git_dir)?),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &lock, error));
            }
            Err(_) if is_stale(git_dir) => ops_core::fs::remove_file_durable(&lock)?,
            Err(_) if begun.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(held(&lock).caused_by(error)),
        }
    }
}

/// Lets go of the lock if this operation has it.
pub(super) fn release(git_dir: &Path, ours: &Path, id: OperationId) -> Result<(), Error> {
    let lock = path(git_dir);
    if operation(&lock).is_some_and(|holder| holder == id.to_string()) {
        return Ok(ops_core::fs::remove_file_durable(&lock)?);
    }
    remove_if_same(&lock, ours)
}

/// Whether the lock of the index is one of ours whose operation is over.
pub(crate) fn is_stale(git_dir: &Path) -> bool {
    operation(&path(git_dir)).is_some_and(|id| {
        id.parse::<OperationId>().is_ok()
            && matches!(presence::is_at(&git_dir.join(FOLDER).join(&id)), Ok(false))
    })
}

/// The error that names a lock of somebody else, its age and its owner.
pub(super) fn held(lock: &Path) -> Error {
    let what = LockFile::at(lock)
        .map_or_else(|| format!("lock file `{}`", lock.display()), |lock| lock.to_string());
    Error::new(ErrorKind::Git, format!("{what}, is held"))
        .class_of(Class::Temporary)
        .remedy("wait for the git that holds it; remove the file only if no git process runs there")
}
