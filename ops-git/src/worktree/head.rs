//! Where `HEAD` is, and moving it by compare-and-swap under its own lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use ops_core::CommitId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, commit_id};
use crate::presence::inode;

/// How long to wait for another git's lock on `HEAD`: its own are held for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Where `HEAD` is: on a branch, or at a commit and on none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadPosition {
    /// On a branch, which may have no commit yet.
    Branch {
        /// The branch.
        branch: BranchName,
    },
    /// Detached.
    Commit {
        /// The commit.
        commit: CommitId,
    },
}

impl std::fmt::Display for HeadPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch { branch } => write!(f, "branch `{branch}`"),
            Self::Commit { commit } => write!(f, "commit {commit}"),
        }
    }
}

impl HeadPosition {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Branch { branch } => format!("ref: refs/heads/{branch}\n"),
            Self::Commit { commit } => format!("{commit}\n"),
        }
    }

    fn short(&self) -> &str {
        match self {
            Self::Branch { branch } => branch.as_str(),
            Self::Commit { commit } => commit.as_str(),
        }
    }
}

/// Where `HEAD` is now, and the commit there; none on a branch without commits.
pub(crate) fn now(repo: &gix::Repository) -> Result<(HeadPosition, Option<CommitId>), Error> {
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let commit = head.id().map(|id| commit_id(id.detach()));
    if head.is_detached() {
        let commit = commit
            .ok_or_else(|| Error::new(ErrorKind::Git, "HEAD is detached and at no commit"))?;
        return Ok((HeadPosition::Commit { commit: commit.clone() }, Some(commit)));
    }
    let name = head.referent_name();
    let branch = name.and_then(BranchName::from_full).ok_or_else(|| {
        let name = name.map(|name| name.as_bstr().to_string()).unwrap_or_default();
        Error::new(ErrorKind::Git, format!("HEAD points to `{name}`, which is no branch"))
            .remedy("check a branch out by hand first")
    })?;
    Ok((HeadPosition::Branch { branch }, commit))
}

/// Points `HEAD` from one position to another; done already is fine. `new` is a file of ours on the
/// same file system, by whose inode its lock is known.
///
/// # Errors
/// [`ErrorKind::Moved`] if it is at neither; a temporary error if another git holds its lock.
pub(super) fn point(
    repo: &gix::Repository,
    new: &Path,
    from: &HeadPosition,
    to: &HeadPosition,
) -> Result<(), Error> {
    let head = repo.git_dir().join("HEAD");
    let lock = repo.git_dir().join("HEAD.lock");
    if now(repo)?.0 != *to {
        write_durably(new, to.line().as_bytes())?;
        acquire(new, &lock)?;
        ops_core::fault::point("git-head-locked");
        let at = now(repo).map(|(at, _)| at);
        if !at.as_ref().is_ok_and(|at| at == from) {
            remove_if_same(&lock, new)?;
            let at = at?;
            return Err(Error::new(ErrorKind::Moved, format!("HEAD is on {at}, not on {from}"))
                .remedy("find out who moved it; then move it by hand to where it belongs"));
        }
        fs::rename(&lock, &head).map_err(|source| Error::io("replace", &head, source))?;
        ops_core::fault::point("git-head-moved");
    }
    Ok(ops_core::fs::sync_dir(repo.git_dir())?)
}

pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let io = |source| Error::io("write", path, source);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

/// Takes a lock by giving a file of ours its name, whole and in one instant.
fn acquire(ours: &Path, lock: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match fs::hard_link(ours, lock) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", lock, error));
            }
            Err(_) if begun.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(super::lock::held(lock).caused_by(error)),
        }
    }
}

/// Removes a name of a file of ours, if it is one.
pub(super) fn remove_if_same(path: &Path, ours: &Path) -> Result<(), Error> {
    let there = inode(path)?;
    if there.is_some() && there == inode(ours)? {
        ops_core::fs::remove_file_durable(path)?;
    }
    Ok(())
}

/// Removes the lock that an interrupted [`point`] left.
pub(super) fn unlock(repo: &gix::Repository, new: &Path) -> Result<(), Error> {
    remove_if_same(&repo.git_dir().join("HEAD.lock"), new)
}

/// Writes into the log of `HEAD` what happened, as git does.
pub(super) fn log(
    repo: &gix::Repository,
    (old, new): (Option<&CommitId>, Option<&CommitId>),
    message: &str,
) -> Result<(), Error> {
    let path = repo.git_dir().join("logs/HEAD");
    let null = gix::ObjectId::null(repo.object_hash()).to_string();
    let shown = |id: Option<&CommitId>| id.map_or(null.clone(), |id| id.as_str().to_owned());
    let seconds = gix::date::Time::now_utc().seconds;
    let line = format!(
        "{} {} ops-git <ops-git@localhost> {seconds} +0000\t{message}\n",
        shown(old),
        shown(new)
    );
    if let Some(folder) = path.parent() {
        ops_core::fs::create_dir_durable(folder)?;
    }
    let io = |source| Error::io("write", &path, source);
    let mut file: File = OpenOptions::new().append(true).create(true).open(&path).map_err(io)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
}

/// What git writes into the log when it checks out.
pub(super) fn message(from: &HeadPosition, to: &HeadPosition) -> String {
    format!("checkout: moving from {} to {}", from.short(), to.short())
}
