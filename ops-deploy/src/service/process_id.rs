//! Which process it was: a pid is used again, a pid with its start time and boot is not.

use std::{fs, io};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// One process, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot: field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// The boot in which it runs: `/proc/sys/kernel/random/boot_id`.
    #[serde(with = "boot_as_text")]
    pub boot: u128,
}

/// Not every reader of JSON has numbers of 128 bits.
mod boot_as_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(boot: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{boot:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

impl ProcessId {
    /// The process that has this number now, if one has.
    ///
    /// # Errors
    /// If `/proc` cannot be read, as where a process has too many open files.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(stat) = stat(pid)? else { return Ok(None) };
        Ok(Some(Self { pid, start_time: stat.start_time, boot: boot()? }))
    }

    /// Whether the machine has not been started again since.
    pub(super) fn is_of_this_boot(&self) -> io::Result<bool> {
        Ok(boot()? == self.boot)
    }

    /// Whether it runs still. A zombie does not.
    ///
    /// # Errors
    /// If `/proc` cannot be read: then nobody knows.
    pub fn is_alive(&self) -> io::Result<bool> {
        let found = stat(self.pid)?.filter(|stat| !matches!(stat.state, b'Z' | b'X'));
        Ok(found.is_some_and(|stat| stat.start_time == self.start_time)
            && self.is_of_this_boot()?)
    }
}

/// Whether an error of `/proc/<pid>` says that there is no such process any more.
fn is_gone(error: &io::Error) -> bool {
    let ended = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ended)
}

pub(super) fn rustix_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

struct Stat {
    state: u8,
    start_time: u64,
}

fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The program's name stands in parentheses, and may have parentheses and spaces itself.
fn parse(text: &[u8]) -> Option<Stat> {
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields =
        text.get(after_name..)?.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
    let state = *fields.next()?.first()?;
    // The state is field 3, so the one that comes next is field 4.
    let start_time = std::str::from_utf8(fields.nth(22 - 4)?).ok()?.parse().ok()?;
    Some(Stat { state, start_time })
}

fn boot() -> io::Result<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits = text.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let line = b"42 (a) S 1) Z 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.start_time), (b'Z', 987_654));
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = ProcessId::of(std::process::id()).unwrap().unwrap();
        assert!(me.is_alive().unwrap());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive().unwrap());
        assert!(!ProcessId { boot: me.boot ^ 1, ..me }.is_alive().unwrap());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let it = ProcessId::of(child.id()).unwrap().unwrap();
        child.wait().unwrap();
        assert!(!it.is_alive().unwrap());
        assert!(ProcessId::of(child.id()).unwrap().is_none());
    }

    #[test]
    fn only_what_is_gone_is_gone() {
        let errors = [(Errno::NOENT, true), (Errno::SRCH, true), (Errno::MFILE, false)];
        for (errno, gone) in errors {
            assert_eq!(is_gone(&errno.into()), gone, "{errno}");
        }
    }
}
