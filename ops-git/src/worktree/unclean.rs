//! Everything in a work tree that its commit has not.

use std::collections::BTreeSet;
use std::path::Path;

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Flags, Mode, Stage};
use ops_core::CommitId;

use super::head::{self, HeadPosition};
use super::index_file;
use super::look::Look;
use super::obstacle::Obstacle;
use super::planner::View as _;
use super::prepare::tree_of;
use super::root::{Root, Seen, Shape};
use super::staged::{decided, staged};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{commit_id, object_id};

/// Whether tracked files that are not there count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Present {
    /// Only what lies there.
    Only,
    /// What should lie there and does not is a change, too.
    AndMissing,
}

/// Every path of a work tree that is changed, staged, untracked or ignored, sorted. The work tree
/// is looked at where it is now, which need not be where its repository has it.
pub(crate) fn unclean(
    repo: &gix::Repository,
    folder: &Path,
    which: Present,
) -> Result<Vec<(Obstacle, BString)>, Error> {
    let root = Root::open(folder)?;
    let index = index_file::read(repo)?;
    if index.split {
        return Err(Error::new(ErrorKind::Refused, "the index is split into two files")
            .remedy("join them with `git update-index --no-split-index`"));
    }
    let (_, commit) = head::now(repo)?;
    let tree = commit.as_ref().map(object_id).transpose()?;
    let tree = tree.map(|id| tree_of(repo, id)).transpose()?;
    let mut found: BTreeSet<(Obstacle, BString)> = BTreeSet::new();
    if index.existed {
        let staged = decided(staged(repo, tree, &index.state)?, &index.state);
        found.extend(staged.into_iter().map(|path| (Obstacle::StagedChange, path)));
    }
    let state = &index.state;
    for entry in state.entries() {
        let path = entry.path(state);
        if entry.stage() != Stage::Unconflicted {
            found.insert((Obstacle::Unmerged, path.to_owned()));
        } else if which == Present::AndMissing
            && !entry.flags.contains(Flags::SKIP_WORKTREE)
            && entry.mode != Mode::COMMIT
            && root.look(path)?.is_none()
        {
            found.insert((Obstacle::LocalChange, path.to_owned()));
        }
    }
    let mut look = Look::new(repo, &root, state)?;
    let mut left = vec![BString::default()];
    while let Some(folder) = left.pop() {
        for name in root.list(if folder.is_empty() { BStr::new(".") } else { folder.as_bstr() })? {
            if folder.is_empty() && name == ".git" {
                continue;
            }
            let path = joined(folder.as_bstr(), name.as_bstr());
            let Some(seen) = root.look(path.as_bstr())? else { continue };
            match judge(&mut look, &root, state, path.as_bstr(), &seen)? {
                Judged::Clean => {}
                Judged::Inside => left.push(path),
                Judged::Unclean(obstacle) => {
                    found.insert((obstacle, path));
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

enum Judged {
    Clean,
    /// A folder, in which each thing is to be looked at.
    Inside,
    Unclean(Obstacle),
}

fn judge(
    look: &mut Look<'_>,
    root: &Root,
    state: &State,
    path: &BStr,
    seen: &Seen,
) -> Result<Judged, Error> {
    let entry = state.entry_by_path_and_stage(path, Stage::Unconflicted);
    if seen.is_folder() {
        if entry.is_some_and(|entry| entry.mode == Mode::COMMIT) {
            let empty = root.list(path)?.is_empty();
            return Ok(if empty { Judged::Clean } else { Judged::Unclean(Obstacle::Submodule) });
        }
        if root.look(joined(path, BStr::new(".git")).as_bstr())?.is_some() {
            return Ok(Judged::Unclean(Obstacle::Folder));
        }
        let tracked = tracks_below(state, path);
        return Ok(match look.ignored(path, true) {
            Ok(true) if !tracked => Judged::Unclean(Obstacle::Ignored),
            _ => Judged::Inside,
        });
    }
    let unreadable = |reason| Judged::Unclean(Obstacle::Unreadable { reason });
    Ok(match entry {
        Some(entry) if matches!(seen.shape, Shape::File { .. } | Shape::Link) => {
            match look.unchanged(path, entry) {
                Ok(true) => Judged::Clean,
                Ok(false) => Judged::Unclean(Obstacle::LocalChange),
                Err(reason) => unreadable(reason),
            }
        }
        Some(_) => Judged::Unclean(Obstacle::LocalChange),
        None => match look.ignored(path, false) {
            Ok(true) => Judged::Unclean(Obstacle::Ignored),
            Ok(false) => Judged::Unclean(Obstacle::Untracked),
            Err(reason) => unreadable(reason),
        },
    })
}

fn tracks_below(state: &State, folder: &BStr) -> bool {
    let mut below = folder.to_owned();
    below.push(b'/');
    state.prefixed_entries(below.as_bstr()).is_some_and(|entries| !entries.is_empty())
}

fn joined(folder: &BStr, name: &BStr) -> BString {
    let mut path = folder.to_owned();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The commit of a detached `HEAD` that no branch and no tag leads to.
pub(crate) fn only_here(repo: &gix::Repository) -> Result<Option<CommitId>, Error> {
    let (HeadPosition::Commit { commit }, _) = head::now(repo)? else { return Ok(None) };
    let tip = object_id(&commit)?;
    let doing = || "the branches and tags cannot be read".to_owned();
    let mut known = Vec::new();
    for reference in repo.references().doing(doing)?.all().doing(doing)? {
        let Ok(mut reference) = reference else { continue };
        if reference.name().as_bstr().starts_with(b"refs/ops-git/") {
            continue;
        }
        if let Ok(commit) = reference.peel_to_commit() {
            known.push(commit.id);
        }
    }
    let mut walk = repo.rev_walk([tip]).with_hidden(known).all().history(tip)?;
    let own = walk.next().transpose().history(tip)?;
    Ok(own.map(|_| commit_id(tip)))
}
