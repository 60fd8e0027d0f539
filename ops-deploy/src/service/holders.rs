//! Who has a file as its standard input.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// The processes whose standard input is this file. Those of other users cannot be seen.
pub(super) fn holders(of: &fs::Metadata) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, of))
        .collect()
}

/// Whether this process has this file as its standard input.
pub(super) fn holds(pid: u32, file: &fs::Metadata) -> bool {
    fs::metadata(format!("/proc/{pid}/fd/0"))
        .is_ok_and(|found| found.dev() == file.dev() && found.ino() == file.ino())
}
