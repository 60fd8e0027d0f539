//! Free space.

use std::io;
use std::path::Path;

use super::durable::parent;
use super::failure::failed;
use crate::error::Error;

/// The space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// What this user can still write; less than what is free where some is kept for root.
    pub available: u64,
    /// The size of the file system.
    pub total: u64,
}

/// The space of the file system that holds `path`, or will hold it: of the nearest folder above
/// that exists.
///
/// # Errors
///
/// When a folder on the way cannot be entered.
pub fn space(path: &Path) -> Result<Space, Error> {
    let mut level = path;
    loop {
        match rustix::fs::statvfs(level) {
            Ok(found) => {
                return Ok(Space {
                    available: found.f_bavail.saturating_mul(found.f_frsize),
                    total: found.f_blocks.saturating_mul(found.f_frsize),
                });
            }
            Err(error) => {
                let error = io::Error::from(error);
                let above = parent(level);
                if error.kind() != io::ErrorKind::NotFound || above == level {
                    return Err(failed("measure the space at", level, error));
                }
                level = above;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_that_of_the_nearest_folder_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let here = space(dir.path()).unwrap();
        let below = space(&dir.path().join("not/yet/there")).unwrap();
        assert_eq!(here.total, below.total);
        assert!(here.total > 0 && here.available <= here.total);
    }
}
