//! What an operation needs of the machine: every finding at once.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::Refusal;

/// What an operation needs of the machine.
#[derive(Debug, Clone, Default)]
#[must_use = "call `check`"]
pub struct Requirements {
    disk: Vec<(PathBuf, u64)>,
    memory: Option<u64>,
    load: Option<f64>,
    ports: Vec<u16>,
    programs: Vec<String>,
}

impl Requirements {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// At least this many bytes must be free on the file system that holds `path`.
    pub fn free_disk(mut self, path: impl Into<PathBuf>, bytes: u64) -> Self {
        self.disk.push((path.into(), bytes));
        self
    }

    /// At least this many bytes of memory must be available.
    pub fn free_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The run queue's average over a minute must not be longer than this.
    pub fn max_load(mut self, load: f64) -> Self {
        self.load = Some(load);
        self
    }

    /// This TCP port must be free on the loopback address.
    pub fn free_port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// This program must be in PATH.
    pub fn program(mut self, name: impl Into<String>) -> Self {
        self.programs.push(name.into());
        self
    }

    /// Every requirement that is not met, with its remedy. Blocks on the file system.
    pub fn check(&self) -> Vec<Refusal> {
        let mut findings: Vec<_> =
            self.disk.iter().filter_map(|(path, needed)| disk(path, *needed)).collect();
        if let Some(needed) = self.memory {
            findings.extend(memory(needed));
        }
        if let Some(most) = self.load {
            findings.extend(load(most));
        }
        for port in &self.ports {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) {
                findings.push(Refusal::new(
                    format!("port {port} is not free: {error}"),
                    "end the program that listens on it, or use another port",
                ));
            }
        }
        for program in &self.programs {
            if !is_in_path(program) {
                findings.push(Refusal::new(
                    format!("program `{program}` is not in PATH"),
                    "install it, or add its folder to PATH",
                ));
            }
        }
        findings
    }
}

fn disk(path: &Path, needed: u64) -> Option<Refusal> {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    match crate::fs::space(existing) {
        Ok(space) if space.available >= needed => None,
        Ok(space) => Some(Refusal::new(
            format!("`{}` has {} bytes free, {needed} are needed", path.display(), space.available),
            "free some disk space, or use another disk",
        )),
        Err(error) => Some(Refusal::new(error.to_string(), "name a path that can be read")),
    }
}

fn memory(needed: u64) -> Option<Refusal> {
    let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    match System::new_with_specifics(ram).map(|system| system.available_memory()) {
        Ok(available) if available >= needed => None,
        Ok(available) => Some(Refusal::new(
            format!("{available} bytes of memory are available, {needed} are needed"),
            "end other programs, or use a larger machine",
        )),
        Err(error) => Some(Refusal::new(
            format!("the memory that is available cannot be read: {error}"),
            "mount /proc",
        )),
    }
}

fn load(most: f64) -> Option<Refusal> {
    match System::load_average() {
        Ok(load) if load.one <= most => None,
        Ok(load) => Some(Refusal::new(
            format!("the load is {:.2}, at most {most:.2} is wanted", load.one),
            "wait until the machine has less to do",
        )),
        Err(error) => {
            Some(Refusal::new(format!("the load cannot be read: {error}"), "mount /proc"))
        }
    }
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        let meta = std::fs::metadata(folder.join(program));
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_at_once() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let findings = Requirements::new()
            .free_disk("/", u64::MAX)
            .free_memory(u64::MAX)
            .max_load(-1.0)
            .free_port(port)
            .program("no-such-program")
            .program("sh")
            .check();
        let text: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 5, "{text:#?}");
        assert!(text[3].starts_with(&format!("port {port} is not free")), "{text:#?}");
        assert!(text[4].starts_with("program `no-such-program` is not in PATH"), "{text:#?}");
    }
}
