//! How much room a switch needs while both trees lie side by side.

use super::prepare::{Prepared, new_files};
use crate::blocker::Blocker;
use crate::error::{Error, GitResult as _};
use crate::room;

/// What a file takes besides its bytes, at most: the rest of its last block.
const BLOCK: u64 = 4096;

/// What one path takes in an index, about.
const INDEX_ENTRY: u64 = 128;

/// What is lacking on the disk, if anything. Filters that make content longer are not foreseen; a
/// disk that fills up because of them is noticed before anything moves.
pub(super) fn lacking(
    repo: &gix::Repository,
    prepared: &Prepared,
) -> Result<Option<Blocker>, Error> {
    let mut needed = INDEX_ENTRY * prepared.next.entries().len() as u64;
    for (path, cell) in new_files(&prepared.transitions) {
        let header = repo
            .find_header(cell.id)
            .doing(|| format!("the content of `{path}` cannot be read"))?;
        needed += header.size().div_ceil(BLOCK) * BLOCK;
    }
    room::lacking(repo.git_dir(), needed)
}
