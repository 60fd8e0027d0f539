//! Which processes belong to an instance: those that have its lock as their standard input, and
//! those that carry its mark in their environment.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
    pub(super) fn find(&self) -> Vec<u32> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() && self.are_on(*pid))
            .collect()
    }

    /// Whether this process belongs to the instance.
    pub(super) fn are_on(&self, pid: u32) -> bool {
        self.holds_lock(pid)
            || fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|entry| entry == self.mark))
    }

    /// Whether this process has the lock as its standard input.
    pub(super) fn holds_lock(&self, pid: u32) -> bool {
        self.lock.is_some()
            && fs::metadata(format!("/proc/{pid}/fd/0"))
                .is_ok_and(|found| self.lock == Some((found.dev(), found.ino())))
    }
}
