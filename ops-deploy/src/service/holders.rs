//! Which processes belong to an instance: those that have its lock as their standard input, and
//! those that carry its mark in their environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{fs, io};

use rustix::io::Errno;

/// The variable in which a service, and whatever it starts, carries the folder of its instance.
pub(super) const MARK: &str = "OPS_INSTANCE";

/// How the processes of one instance are told from others.
#[derive(Debug)]
pub(super) struct Signs {
    /// Device and inode of its lock.
    lock: Option<(u64, u64)>,
    /// The mark, as it stands in an environment.
    mark: Vec<u8>,
}

/// The mark's value for the instance of this folder.
pub(super) fn mark(folder: &Path) -> OsString {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).into_os_string()
}

impl Signs {
    pub(super) fn new(folder: &Path, lock: Option<&fs::Metadata>) -> Self {
        let mut entry = MARK.as_bytes().to_vec();
        entry.push(b'=');
        entry.extend_from_slice(mark(folder).as_bytes());
        Self { lock: lock.map(|lock| (lock.dev(), lock.ino())), mark: entry }
    }

    /// The processes of the instance. Those of other users cannot be seen; this one is left out,
    /// as a deployer that was started by the service that it replaces must not end itself.
    ///
    /// # Errors
    /// If the processes cannot be looked at: none found would mean that none is there.
    pub(super) fn find(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if pid != std::process::id() && self.are_on(pid)? {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Whether this process belongs to the instance.
    pub(super) fn are_on(&self, pid: u32) -> io::Result<bool> {
        if self.holds_lock(pid)? {
            return Ok(true);
        }
        let all = seen(fs::read(format!("/proc/{pid}/environ")))?;
        Ok(all.is_some_and(|all| all.split(|byte| *byte == 0).any(|entry| entry == self.mark)))
    }

    /// Whether this process has the lock as its standard input.
    pub(super) fn holds_lock(&self, pid: u32) -> io::Result<bool> {
        if self.lock.is_none() {
            return Ok(false);
        }
        let input = seen(fs::metadata(format!("/proc/{pid}/fd/0")))?;
        Ok(input.is_some_and(|found| self.lock == Some((found.dev(), found.ino()))))
    }
}

/// What was found of a process, if anything can be: it may be gone or another user's, or its input may
/// be a file that is out of reach. That this program can open nothing more says nothing of it.
fn seen<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error().is_some_and(|errno| exhausted.contains(&errno)) => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_for_want_of_files_is_not_absent() {
        for (errno, absent) in [
            (Errno::SRCH, true),
            (Errno::NOENT, true),
            (Errno::ACCESS, true),
            (Errno::STALE, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
        ] {
            assert_eq!(seen::<()>(Err(errno.into())).is_ok(), absent, "{errno}");
        }
    }
}
