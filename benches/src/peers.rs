//! The programs of the peers.

use std::path::PathBuf;

use crate::Failure;

/// That each program is there; a ratio to nothing would be none. Each comes with the Debian package
/// that has it.
///
/// # Errors
/// Of those that are not, with their packages.
pub(crate) fn need(whose: &str, programs: &[(&str, &str)]) -> Result<(), Failure> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|(name, _)| find(name).is_none())
        .map(|(name, package)| format!("`{name}` (Debian package `{package}`)"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(format!("the peers of the {whose} benchmarks are not installed: {missing}").into())
}

/// Where a program of this name is; Debian's servers lie outside of a user's `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
