//! How two commits lie to each other.

use crate::ahead_behind::ahead_behind;
use crate::error::Error;

/// How many commits `one` has that `other` has not, and the other way round.
pub(crate) fn apart(
    repo: &gix::Repository,
    one: gix::ObjectId,
    other: gix::ObjectId,
) -> Result<(usize, usize), Error> {
    let apart = ahead_behind(repo, one, other)?;
    Ok((apart.ahead, apart.behind))
}
