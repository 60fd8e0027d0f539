//! Room on a disk.

use std::path::Path;

use crate::blocker::Blocker;
use crate::error::Error;

/// What is lacking for so many bytes at a folder, if anything.
pub(crate) fn lacking(folder: &Path, needed: u64) -> Result<Option<Blocker>, Error> {
    let free = ops_core::fs::space(folder)?.available;
    let folder = folder.to_owned();
    Ok((free < needed).then_some(Blocker::DiskFull { folder, free, needed }))
}
