//! The folder on whose disk everything is measured.

use std::path::Path;

use tempfile::TempDir;

use crate::Failure;

/// What `statfs` calls `tmpfs`.
const IN_MEMORY: rustix::fs::FsWord = 0x0102_1994;

/// A new folder in this one, or beside the program; it is removed in the end.
///
/// # Errors
/// Of one that lies in memory, where a durable write costs nothing, or that cannot be made.
pub fn open(parent: Option<&Path>) -> Result<TempDir, Failure> {
    let program = std::env::current_exe()?;
    let parent = parent.or(program.parent()).unwrap_or(Path::new("."));
    let fail = |e: &dyn std::fmt::Display| format!("cannot use {}: {e}", parent.display());
    let about = rustix::fs::statfs(parent).map_err(|e| fail(&e))?;
    if about.f_type == IN_MEMORY {
        let message = "it lies in memory, where a durable write costs nothing; \
                       name a folder on a disk with --scratch";
        return Err(fail(&message).into());
    }
    Ok(tempfile::Builder::new().prefix("ops-bench-").tempdir_in(parent).map_err(|e| fail(&e))?)
}
