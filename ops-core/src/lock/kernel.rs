//! Whose lock it is, as the kernel says.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

/// The process that took the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locker(u32);

impl Locker {
    pub(super) fn pid(self) -> u32 {
        self.0
    }

    /// Whether this process calls itself so. One in a container knows itself by another number.
    pub(super) fn is(self, pid: u32) -> bool {
        if self.0 == pid {
            return true;
        }
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .is_some_and(|pids| pids.split_whitespace().any(|name| name.parse() == Ok(pid)))
    }
}

/// The process that has a `flock` on this file, where the kernel shows it: not from inside a
/// container for a lock outside, and not on file systems whose files bear other device numbers
/// than their mount.
pub(super) fn locker(file: &File) -> Option<Locker> {
    let found = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let this = format!("{major:02x}:{minor:02x}:{}", found.ino());
    parse(&std::fs::read_to_string("/proc/locks").ok()?, &this)
}

/// Lines such as `2: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`; one that waits has `->` second.
fn parse(locks: &str, file: &str) -> Option<Locker> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, "WRITE", pid, name, ..] if *name == file => {
                pid.parse().ok().filter(|pid| *pid != 0).map(Locker)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_who_has_the_lock() {
        let file = tempfile::tempfile().unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        if let Some(locker) = locker(&file) {
            assert_eq!(locker.pid(), std::process::id());
            assert!(locker.is(std::process::id()) && !locker.is(1));
        }
    }

    #[test]
    fn only_a_lock_that_is_held_on_this_file_counts() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fe:00:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 11 fe:00:131 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 12 fe:00:131 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 13 fe:00:1310 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 14 fe:00:131 0 EOF\n";
        assert_eq!(parse(locks, "fe:00:131").map(Locker::pid), Some(14));
        assert!(parse(locks, "fe:00:132").is_none());
        assert!(parse("", "fe:00:131").is_none());
    }
}
