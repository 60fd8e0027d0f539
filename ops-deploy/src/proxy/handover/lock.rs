//! Whose folder it is, and who serves.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, ErrorKind};

fn open(path: &Path) -> Result<File, Error> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.map_err(|error| Error::io("open", path, error))
}

/// Says that a folder has its proxy. A successor gets the same open file; the lock is free when the
/// last process that has it has ended.
#[derive(Debug)]
pub(in crate::proxy) struct FolderLock(OwnedFd);

impl FolderLock {
    pub(in crate::proxy) fn take(folder: &Path) -> Result<Self, Error> {
        ops_core::fs::create_dir_durable(folder)?;
        let file = open(&folder.join("proxy.lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            Error::new(ErrorKind::Proxy, format!("another proxy runs on `{}`", folder.display()))
                .remedy(
                    "one proxy a folder; give this one its own, let it take the other's place, or \
                     stop the other",
                )
                .caused_by(std::io::Error::from(error))
        })?;
        Ok(Self(file.into()))
    }

    pub(super) fn received(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for FolderLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Held by the one process that serves and moves the pointer.
#[derive(Debug)]
pub(in crate::proxy) struct ServingLock(File);

impl ServingLock {
    /// Opens it, and does not take it yet.
    pub(in crate::proxy) fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self(open(&folder.join("serving.lock"))?))
    }

    /// Whether it is held from now on.
    pub(in crate::proxy) fn try_take(&self) -> bool {
        flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// The same; whoever had it may take a moment to end.
    pub(in crate::proxy) async fn take_within(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.try_take() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn free(&self) {
        // Unlocking what is locked does not fail; what is not locked stays so.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
