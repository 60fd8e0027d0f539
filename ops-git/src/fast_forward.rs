//! Why a branch cannot be fast-forwarded: who left whom.

use std::collections::HashSet;

use crate::ahead_behind::{Apart, ahead_behind};
use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, commit_id};

/// How many moves of the remote's branch are looked at.
const LOG_LINES: usize = 200;

/// What is known of the remote's branch from before the fetch.
pub(crate) struct Known<'a> {
    /// Where it was when it was fetched last.
    pub tip: Option<gix::ObjectId>,
    /// The ref that follows it.
    pub tracking: Option<&'a str>,
}

/// Why a branch that has commits which the remote has not cannot just follow; `None` if it need
/// not, for they are our own and the remote has nothing new.
pub(crate) fn no_fast_forward(
    repo: &gix::Repository,
    branch: &BranchName,
    (old, new): (gix::ObjectId, gix::ObjectId),
    known: &Known<'_>,
    apart: Apart,
) -> Result<Option<Blocker>, Error> {
    let Apart { ahead, behind, cut } = apart;
    let (branch, local, upstream) = (branch.clone(), commit_id(old), commit_id(new));
    if behind == 0 {
        // Upstream had all of ours and went back since; nobody commits into a mirror.
        let went_back = repo.is_bare() || once_had(repo, known, old)?;
        return Ok(went_back.then_some(Blocker::Rewritten { branch, local, upstream }));
    }
    if cut {
        return Ok(Some(Blocker::HistoryCut { branch, local, upstream }));
    }
    // What upstream had when it was fetched before contained all of ours: then it is upstream that
    // left, and not we.
    Ok(Some(if once_had(repo, known, old)? {
        Blocker::Rewritten { branch, local, upstream }
    } else {
        Blocker::Diverged { branch, local, upstream, ahead, behind }
    }))
}

/// Whether the remote's branch contained a commit when it was fetched before: what the ref that
/// follows it was at, as its log remembers.
fn once_had(
    repo: &gix::Repository,
    known: &Known<'_>,
    commit: gix::ObjectId,
) -> Result<bool, Error> {
    let mut seen = HashSet::new();
    let mut contains = |tip: gix::ObjectId| {
        seen.insert(tip)
            && repo.has_object(tip)
            && ahead_behind(repo, commit, tip).is_ok_and(|apart| apart.ahead == 0)
    };
    if known.tip.is_some_and(&mut contains) {
        return Ok(true);
    }
    let Some(name) = known.tracking else { return Ok(false) };
    let doing = || format!("the log of `{name}` cannot be read");
    let Some(reference) = repo.try_find_reference(name).doing(doing)? else { return Ok(false) };
    let mut log = reference.log_iter();
    let Some(lines) =
        log.rev().map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?
    else {
        return Ok(false);
    };
    for line in lines.take(LOG_LINES).flatten() {
        if contains(line.previous_oid) {
            return Ok(true);
        }
    }
    Ok(false)
}
