//! Which process it was: a pid is used again, a pid with its start time and boot is not.

use std::fs;

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
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_time: stat(pid)?.start_time, boot: boot()? })
    }

    /// Whether the machine has not been started again since.
    pub(super) fn is_of_this_boot(&self) -> bool {
        boot() == Some(self.boot)
    }

    /// Whether it runs still. A zombie does not.
    pub fn is_alive(&self) -> bool {
        let found = stat(self.pid).filter(|stat| !matches!(stat.state, b'Z' | b'X'));
        found.is_some_and(|stat| stat.start_time == self.start_time) && boot() == Some(self.boot)
    }
}

pub(super) fn rustix_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

struct Stat {
    state: u8,
    start_time: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&text)
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

fn boot() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let line = b"42 (a) S 1) Z 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.start_time), (b'Z', 987_654));
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
        assert!(!ProcessId { boot: me.boot ^ 1, ..me }.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let it = ProcessId::of(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!it.is_alive());
    }
}
