//! How two commits lie to each other.

use crate::error::{Error, GitResult as _};

/// How many commits `one` has that `other` has not, and the other way round.
pub(crate) fn apart(
    repo: &gix::Repository,
    one: gix::ObjectId,
    other: gix::ObjectId,
) -> Result<(usize, usize), Error> {
    let count = |tip: gix::ObjectId, hidden: gix::ObjectId| -> Result<usize, Error> {
        let mut count = 0;
        for commit in repo.rev_walk([tip]).with_hidden([hidden]).all().history(tip)? {
            commit.history(tip)?;
            count += 1;
        }
        Ok(count)
    };
    if one == other {
        return Ok((0, 0));
    }
    Ok((count(one, other)?, count(other, one)?))
}
