//! Moving a branch forth and back.
//!
//! `refs/ops-git/<operation>/<branch>` is written first. It holds the old tip (of a new branch, the
//! new one), so that gc keeps it; and it is the proof that this operation moved the branch:
//! without it an undo has nothing to undo.

use gix::refs::FullName;
use ops_core::{CommitId, OperationId, Refusal, StepContext};

use crate::checked_out::anywhere;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, object_id};
use crate::refs::{self, Move, shown};

fn kept(branch: &BranchName, id: OperationId) -> FullName {
    FullName::try_from(format!("refs/ops-git/{id}/{branch}"))
        .expect("an operation's id and a branch's name make a ref's name")
}

fn ids(
    old: Option<&CommitId>,
    new: &CommitId,
) -> Result<(Option<gix::ObjectId>, gix::ObjectId), Error> {
    Ok((old.map(object_id).transpose()?, object_id(new)?))
}

pub(crate) fn check(
    repo: &gix::Repository,
    branch: &BranchName,
    old: Option<&CommitId>,
) -> Result<Vec<Refusal>, Error> {
    let old = old.map(object_id).transpose()?;
    let now = refs::tip(repo, &branch.full())?;
    let mut reasons: Vec<_> = anywhere(repo, branch)?.into_iter().map(Refusal::from).collect();
    if now != old {
        reasons.push(Refusal::new(
            format!("branch `{branch}` is at {}, the plan expects {}", shown(now), shown(old)),
            "somebody moved it since: plan afresh",
        ));
    }
    Ok(reasons)
}

pub(crate) fn run(
    repo: &gix::Repository,
    branch: &BranchName,
    old: Option<&CommitId>,
    new: &CommitId,
    cx: &StepContext,
) -> Result<(), Error> {
    let (old, new) = ids(old, new)?;
    let name = branch.full();
    let now = refs::tip(repo, &name)?;
    if now == Some(new) {
        // A run that was killed may not have come to that.
        return refs::make_durable(repo, std::iter::once(&name));
    }
    if now != old {
        return Err(moved(branch, now, old, new));
    }
    repo.find_commit(new)
        .and_then(|commit| commit.tree())
        .doing(|| format!("commit {new} is not whole here, so branch `{branch}` stays"))?;
    let taken = anywhere(repo, branch)?;
    if !taken.is_empty() {
        let reasons = taken.into_iter().map(Refusal::from).collect();
        return Err(Error::refused(format!("branch `{branch}` stays where it is"), reasons));
    }

    let keep = kept(branch, cx.operation());
    let message = format!("ops-git: operation {}", cx.operation());
    match refs::tip(repo, &keep)? {
        None => {
            let to = Some(old.unwrap_or(new));
            let message = message.clone();
            refs::apply(repo, &[Move { name: keep.clone(), from: None, to, message }])?;
        }
        Some(_) => refs::make_durable(repo, std::iter::once(&keep))?,
    }
    cx.fault_point("git-old-tip-kept");
    let moving = Move { name, from: old, to: Some(new), message };
    if let Err(error) = refs::apply(repo, &[moving]) {
        // Somebody else was faster: the branch is theirs, and nothing here is to be undone.
        if error.kind() == ErrorKind::Moved {
            remove(repo, &keep)?;
        }
        return Err(error);
    }
    cx.fault_point("git-branch-moved");
    Ok(())
}

pub(crate) fn undo(
    repo: &gix::Repository,
    branch: &BranchName,
    old: Option<&CommitId>,
    new: &CommitId,
    cx: &StepContext,
) -> Result<(), Error> {
    let (old, new) = ids(old, new)?;
    let name = branch.full();
    let keep = kept(branch, cx.operation());
    if refs::tip(repo, &keep)?.is_none() {
        return remove(repo, &keep);
    }
    let lines: Vec<_> = old.iter().chain([&new]).map(|id| format!("{id}\n")).collect();
    refs::clear_own_lock(repo, &name, &lines)?;
    let now = refs::tip(repo, &name)?;
    if now == Some(new) && now != old {
        let message = format!("ops-git: operation {} undone", cx.operation());
        refs::apply(repo, &[Move { name, from: Some(new), to: old, message }])?;
        cx.fault_point("git-branch-moved-back");
    } else if now == old {
        refs::make_durable(repo, std::iter::once(&name))?;
    } else {
        return Err(moved(branch, now, old, new));
    }
    remove(repo, &keep)
}

pub(crate) fn verify(
    repo: &gix::Repository,
    branch: &BranchName,
    commit: &CommitId,
) -> Result<(), Error> {
    let expected = object_id(commit)?;
    let now = refs::tip(repo, &branch.full())?;
    if now != Some(expected) {
        return Err(Error::new(
            ErrorKind::Moved,
            format!("branch `{branch}` is at {}, not at {expected}", shown(now)),
        ));
    }
    repo.find_commit(expected)
        .and_then(|commit| commit.tree())
        .map(drop)
        .doing(|| format!("commit {expected} of branch `{branch}` cannot be read"))
}

pub(crate) fn release(
    repo: &gix::Repository,
    branch: &BranchName,
    id: OperationId,
) -> Result<(), Error> {
    remove(repo, &kept(branch, id))
}

/// Points `HEAD` to `to`, unless it is there already.
pub(crate) fn point_head(
    repo: &gix::Repository,
    from: &BranchName,
    to: &BranchName,
    id: OperationId,
) -> Result<(), Error> {
    let to = to.full();
    if repo.head_name().doing(|| "HEAD cannot be read".into())?.as_ref() == Some(&to) {
        let head = FullName::try_from("HEAD").expect("it is a ref's name");
        return refs::make_durable(repo, std::iter::once(&head));
    }
    refs::point_head(repo, &from.full(), &to, &format!("ops-git: operation {id}"))
}

/// Points `HEAD` back to `from`, after whatever became of pointing it to `to`.
pub(crate) fn point_back(
    repo: &gix::Repository,
    from: &BranchName,
    to: &BranchName,
    id: OperationId,
) -> Result<(), Error> {
    let head = FullName::try_from("HEAD").expect("it is a ref's name");
    let lines = [from, to].map(|branch| format!("ref: {}\n", branch.full().as_bstr()));
    refs::clear_own_lock(repo, &head, &lines)?;
    point_head(repo, to, from, id)
}

fn remove(repo: &gix::Repository, keep: &FullName) -> Result<(), Error> {
    refs::remove_private(repo, keep)
}

fn moved(
    branch: &BranchName,
    now: Option<gix::ObjectId>,
    old: Option<gix::ObjectId>,
    new: gix::ObjectId,
) -> Error {
    Error::new(
        ErrorKind::Moved,
        format!("branch `{branch}` is at {}, neither at {} nor at {new}", shown(now), shown(old)),
    )
    .remedy("find out who moved it; then move it by hand to where it belongs")
}
