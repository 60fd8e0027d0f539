//! Letting our refs follow what the remote has, when all of its objects are here.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Duration;

use gix::refs::FullName;

use super::{Fetched, Job, incoming};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::BranchName;
use crate::refs::{self, Move};

/// Below the common git directory: who lets refs follow, and which, so that the next one knows
/// whose locks were left if it is killed.
const TURN: &str = "ops-git-fetching";

/// How long to wait between two looks whether another fetch is done.
const LOOK: Duration = Duration::from_millis(20);

/// The right to let refs follow: one at a time.
struct Turn(File);

impl Turn {
    fn take(repo: &gix::Repository, job: Option<&Job>) -> Result<Option<Self>, Error> {
        let path = repo.common_dir().join(TURN);
        let io = |source| Error::io("lock", &path, source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) => match job {
                    Some(job) => job.stop.check()?,
                    None => return Ok(None),
                },
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Removes the locks of refs that a killed fetch left, and nobody else's.
    fn tidy(&mut self, repo: &gix::Repository) -> Result<(), Error> {
        let mut note = String::new();
        if self.0.read_to_string(&mut note).is_err() {
            note.clear();
        }
        for line in note.lines() {
            let mut words = line.split(' ');
            let Some(Ok(name)) = words.next().map(FullName::try_from) else { continue };
            let contents: Vec<_> = words.map(|word| format!("{word}\n")).collect();
            refs::clear_own_lock(repo, &name, &contents)?;
        }
        if note.is_empty() { Ok(()) } else { self.note(&[]) }
    }

    fn note(&mut self, moves: &[&Move]) -> Result<(), Error> {
        let mut text = String::new();
        for moved in moves {
            text += &moved.name.as_bstr().to_string();
            for id in moved.from.iter().chain(&moved.to) {
                text.push(' ');
                text += &id.to_string();
            }
            text.push('\n');
        }
        let write = || {
            self.0.rewind()?;
            self.0.set_len(0)?;
            self.0.write_all(text.as_bytes())
        };
        let mut write = write;
        write().map_err(|source| Error::io("write", std::path::Path::new(TURN), source))
    }
}

/// Takes away what killed fetches left, unless one is at work.
pub(crate) fn tidy(repo: &gix::Repository) -> Result<(), Error> {
    incoming::sweep(repo);
    if !repo.common_dir().join(TURN).exists() {
        return Ok(());
    }
    match Turn::take(repo, None)? {
        Some(mut turn) => turn.tidy(repo),
        None => Ok(()),
    }
}

/// Lets the remote-tracking refs follow, wherever they were, and adds new tags. A tag that is here
/// already keeps its value, as with git; those that the remote has elsewhere are answered.
pub(super) fn follow(
    repo: &gix::Repository,
    job: &Job,
    fetched: &Fetched,
) -> Result<Vec<String>, Error> {
    let mut turn = Turn::take(repo, Some(job))?.expect("it waits for its turn");
    turn.tidy(repo)?;
    let stale = stale(repo, &job.remote, fetched)?;
    let mut moves = Vec::new();
    for (branch, tip) in &fetched.branches {
        let name = tracking(&job.remote, branch);
        let from = refs::tip(repo, &name)?;
        if from != Some(*tip) {
            moves.push(Move { name, from, to: Some(*tip), message: "fetch".into() });
        }
    }
    let mut moved_tags = Vec::new();
    for (name, tag) in fetched.tags.iter().filter(|_| job.tags) {
        let known = repo
            .try_find_reference(name)
            .doing(|| format!("`{}` cannot be read", name.as_bstr()))?;
        match known.as_ref().and_then(gix::Reference::try_id) {
            Some(id) if id == tag.id => {}
            Some(_) => moved_tags.push(name.shorten().to_string()),
            None if known.is_none() && repo.has_object(tag.id) => {
                let message = String::new();
                moves.push(Move { name: name.clone(), from: None, to: Some(tag.id), message });
            }
            None => {}
        }
    }
    let all: Vec<_> = stale.iter().chain(&moves).collect();
    if all.is_empty() {
        return Ok(moved_tags);
    }
    // Before the first of them moves: one that cannot be locked would leave them half way.
    for moved in &all {
        refs::not_locked_by_others(repo, &moved.name)?;
    }
    job.stop.check()?;
    turn.note(&all)?;
    // What is gone upstream goes first: it may be in the way of what is new.
    let done = refs::apply(repo, &stale).and_then(|()| refs::apply(repo, &moves));
    turn.note(&[])?;
    done.map(|()| moved_tags)
}

/// The remote-tracking refs of branches that the remote has no more.
fn stale(repo: &gix::Repository, remote: &str, fetched: &Fetched) -> Result<Vec<Move>, Error> {
    let doing = || format!("the refs that follow `{remote}` cannot be read");
    let known: BTreeSet<_> =
        fetched.branches.keys().map(|branch| tracking(remote, branch)).collect();
    let prefix = format!("refs/remotes/{remote}/");
    let mut stale = Vec::new();
    let platform = repo.references().doing(doing)?;
    for reference in platform.prefixed(prefix.as_str()).doing(doing)? {
        let reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let name = reference.name().to_owned();
        let Some(id) = reference.try_id().map(gix::Id::detach) else { continue };
        if !known.contains(&name) {
            stale.push(Move { name, from: Some(id), to: None, message: String::new() });
        }
    }
    Ok(stale)
}

fn tracking(remote: &str, branch: &BranchName) -> FullName {
    FullName::try_from(format!("refs/remotes/{remote}/{branch}"))
        .expect("a remote's name and a branch's name make a ref's name")
}
