//! What the machine is.

use serde::{Deserialize, Serialize};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// What the machine is. What cannot be known is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostFacts {
    /// Its name.
    pub hostname: String,
    /// The operating system and its version: `Debian GNU/Linux 12`.
    pub os: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// The processor's architecture: `x86_64`.
    pub arch: String,
    /// How many processors this process may use.
    pub cpus: usize,
    /// Memory in bytes; in a container with a limit, that limit.
    pub memory_bytes: Option<u64>,
}

impl HostFacts {
    /// Reads them. Blocks on the file system.
    pub fn read() -> Self {
        let memory = MemoryRefreshKind::nothing().with_ram();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory)).ok();
        Self {
            hostname: hostname(),
            os: System::long_os_version().ok(),
            kernel: System::kernel_version().ok(),
            arch: System::cpu_arch(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: system.as_ref().map(memory_of),
        }
    }
}

/// The machine's memory, or the container's limit where there is one below it.
fn memory_of(system: &System) -> u64 {
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    match limit.filter(|limit| *limit > 0) {
        Some(limit) => limit.min(system.total_memory()),
        None => system.total_memory(),
    }
}

/// The machine's name.
pub fn hostname() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// The name of the user that this process runs as; the number where it has no name.
pub fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    name_of(uid, &std::fs::read_to_string("/etc/passwd").unwrap_or_default())
        .unwrap_or_else(|| uid.to_string())
}

/// Looks a user up in the format of passwd(5). Users of other directories keep their number.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_or_numbers() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(name_of(7, passwd), None);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let facts = HostFacts::read();
        assert!(facts.cpus > 0 && facts.memory_bytes > Some(0) && !facts.hostname.is_empty());
    }
}
