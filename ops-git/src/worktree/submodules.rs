//! Submodules that move along with the tree that holds them.

use std::path::PathBuf;

use gix::bstr::{BStr, BString, ByteSlice as _};

use super::head::{self, HeadPosition};
use super::place::Switch;
use super::prepare::tree_of;
use super::two_way::{Cell, Kind};
use super::{Foreseen, Memo, foresee, tree_diff};
use crate::blocker::{Blocker, SubmoduleState};
use crate::error::{Error, ErrorKind};
use crate::id::{commit_id, object_id};
use crate::inspect::of_the_repository;
use crate::path_bytes::{PathBytes, on_disk};
use crate::repository::{open_git_dir, open_options};

/// What becomes of the work trees of submodules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmodulePolicy {
    /// They stay as they are, as git leaves them unless it is told otherwise.
    #[default]
    LeaveAlone,
    /// Those that the old commit has and that the new one has at another commit are switched along,
    /// with their own submodules: their `HEAD` is detached at that commit. Each must be there, at
    /// the commit that the old one records, and have the new commit: else it is a refusal. What is
    /// new or gone is left alone.
    Update,
}

/// How deep submodules may lie in each other.
const DEPTH: usize = 16;

/// A submodule that is switched along.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Its git directory.
    pub git_dir: PathBuf,
    pub switch: Switch,
    pub foreseen: Foreseen,
}

/// Every submodule that a switch takes along, the outer ones first, and everything against it.
/// Reads only.
pub(crate) fn inner(
    repo: &gix::Repository,
    switch: &Switch,
) -> Result<(Vec<Inner>, Vec<Blocker>), Error> {
    let mut found = (Vec::new(), Vec::new());
    collect(repo, switch, BStr::new(""), DEPTH, &mut found)?;
    Ok(found)
}

fn collect(
    repo: &gix::Repository,
    switch: &Switch,
    prefix: &BStr,
    depth: usize,
    found: &mut (Vec<Inner>, Vec<Blocker>),
) -> Result<(), Error> {
    let Some(old) = &switch.old else { return Ok(()) };
    let (old, new) = (tree_of(repo, object_id(old)?)?, tree_of(repo, object_id(&switch.new)?)?);
    for (path, change) in tree_diff::between(repo, Some(old), Some(new), false)? {
        let (
            Some(Cell { kind: Kind::Submodule, id: from }),
            Some(Cell { kind: Kind::Submodule, id: to }),
        ) = (change.old, change.new)
        else {
            continue;
        };
        let name = below(prefix, path.as_bstr());
        if depth == 0 {
            let what = format!("submodule `{name}` lies too deep");
            return Err(Error::new(ErrorKind::Hostile, what));
        }
        let state = |state| Blocker::Submodule { path: PathBytes::new(&name), state };
        let Some(inner) = open(repo, path.as_bstr())? else {
            found.1.push(state(SubmoduleState::NotThere));
            continue;
        };
        let (head_from, at) = head::now(&inner)?;
        if at != Some(commit_id(from)) {
            found.1.push(state(SubmoduleState::Elsewhere { at, expected: commit_id(from) }));
            continue;
        }
        if tree_of(&inner, to).is_err() {
            found.1.push(state(SubmoduleState::CommitMissing { commit: commit_id(to) }));
            continue;
        }
        let own = Switch {
            old: at,
            new: commit_id(to),
            head_from,
            head_to: HeadPosition::Commit { commit: commit_id(to) },
            overwrite_ignored: switch.overwrite_ignored,
            whole_index: false,
        };
        let mut foreseen = foresee(&inner, &own, &Memo::default())?;
        let mut blockers = of_the_repository(&inner)?;
        blockers.retain(|blocker| !matches!(blocker, Blocker::Shallow));
        blockers.append(&mut foreseen.blockers);
        found.1.extend(blockers.into_iter().map(|blocker| placed(blocker, name.as_bstr())));
        let git_dir = inner.git_dir().to_owned();
        found.0.push(Inner { git_dir, switch: own.clone(), foreseen });
        collect(&inner, &own, name.as_bstr(), depth - 1, found)?;
    }
    Ok(())
}

/// The repository of a submodule whose work tree is there.
fn open(repo: &gix::Repository, path: &BStr) -> Result<Option<gix::Repository>, Error> {
    let Some(root) = repo.workdir() else { return Ok(None) };
    let folder = root.join(on_disk(path));
    if folder.join(".git").symlink_metadata().is_err() {
        return Ok(None);
    }
    let Ok(found) = gix::open_opts(&folder, open_options()) else { return Ok(None) };
    let git_dir =
        found.git_dir().canonicalize().map_err(|e| Error::io("find", found.git_dir(), e))?;
    // As the steps will open it: its own configuration says where its work tree is.
    let found = open_git_dir(&git_dir)?;
    let same = |one: Option<&std::path::Path>| one.and_then(|path| path.canonicalize().ok());
    Ok((same(found.workdir()) == same(Some(&folder))).then_some(found))
}

/// The paths of a submodule's blocker, as the outermost tree has them.
fn placed(blocker: Blocker, at: &BStr) -> Blocker {
    match blocker {
        Blocker::Paths { obstacle, paths } => {
            let paths = paths.iter().map(|path| PathBytes::new(below(at, path.as_bytes().into())));
            Blocker::Paths { obstacle, paths: paths.collect() }
        }
        other => other,
    }
}

fn below(prefix: &BStr, path: &BStr) -> BString {
    let mut all = prefix.to_owned();
    if !all.is_empty() {
        all.push(b'/');
    }
    all.extend_from_slice(path);
    all
}
