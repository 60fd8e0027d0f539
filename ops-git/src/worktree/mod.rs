//! Making a work tree another commit's, in place.
//!
//! A [`planner`] that only reads says what has to happen at each path, in the terms of git's table
//! for two trees, and names everything against it at once. Then, under the lock of the index: what
//! is to come is staged whole below `.git/ops-git/<operation>/` and made durable; a manifest is
//! written; each path is exchanged in one instant with what is staged for it; the index and `HEAD`
//! are moved by rename. Until the operation has committed, what was there lies in the same folder,
//! so that going back needs renames only. What belongs to neither side is never overwritten and
//! never removed: it is saved below `.git/ops-git/lost/<operation>/`.

mod back;
mod browse;
mod cache_tree;
mod forth;
mod head;
mod index_file;
mod lock;
mod look;
mod memo;
mod names;
mod obstacle;
mod open_index;
mod place;
mod planner;
mod prepare;
mod room;
mod root;
mod stage;
mod staged;
mod submodules;
mod tree_diff;
mod two_way;
mod unclean;
mod verify;

pub use head::HeadPosition;
pub use obstacle::Obstacle;
pub use submodules::SubmodulePolicy;

pub(crate) use back::{release, undo};
pub(crate) use forth::{check, run};
pub(crate) use head::now as head_now;
pub(crate) use lock::is_stale;
pub(crate) use look::blob_id;
pub(crate) use memo::Memo;
pub(crate) use open_index::OpenIndex;
pub(crate) use place::{FOLDER, Switch, interrupted};
pub(crate) use prepare::expect_head;
pub(crate) use staged::staged;
pub(crate) use submodules::{Inner, inner};
pub(crate) use unclean::{Present, only_here, unclean};
pub(crate) use verify::verify;

use std::collections::BTreeMap;

use gix::bstr::{BStr, BString};
use ops_core::CommitId;

use crate::blocker::Blocker;
use crate::error::Error;
use crate::id::object_id;
use crate::path_bytes::PathBytes;

/// What a switch would do, in numbers, and everything against it. Reads only.
#[derive(Debug)]
pub(crate) struct Foreseen {
    pub files_new: usize,
    pub files_changed: usize,
    pub files_removed: usize,
    pub blockers: Vec<Blocker>,
}

pub(crate) fn foresee(
    repo: &gix::Repository,
    switch: &Switch,
    memo: &Memo,
) -> Result<Foreseen, Error> {
    let root = prepare::workdir(repo)?;
    let mut prepared = prepare::prepare(repo, &root, switch, memo)?;
    prepared.blockers.extend(room::lacking(repo, &prepared)?);
    let (mut new, mut changed, mut removed) = (0, 0, 0);
    for file in &prepared.transitions.files {
        match (&file.old, &file.new) {
            (Some(_), Some(_)) => changed += 1,
            (None, Some(_)) => new += 1,
            (Some(_), None) => removed += 1,
            (None, None) => {}
        }
    }
    Ok(Foreseen {
        files_new: new,
        files_changed: changed,
        files_removed: removed,
        blockers: prepared.blockers,
    })
}

/// A folder with nothing in it.
struct Nothing;

impl planner::View for Nothing {
    fn look(&mut self, _: &BStr) -> Result<Option<root::Seen>, Error> {
        Ok(None)
    }

    fn list(&mut self, _: &BStr) -> Result<Vec<BString>, Error> {
        Ok(Vec::new())
    }

    fn unchanged(&mut self, _: &BStr, _: &gix::index::Entry) -> Result<bool, String> {
        Ok(true)
    }

    fn ignored(&mut self, _: &BStr, _: bool) -> Result<bool, String> {
        Ok(false)
    }

    fn movable(&mut self, _: &root::Seen) -> bool {
        true
    }
}

/// How many files a commit would bring into an empty folder, and which of them may not come.
pub(crate) fn foresee_new(
    repo: &gix::Repository,
    commit: &CommitId,
) -> Result<(usize, Vec<Blocker>), Error> {
    let tree = prepare::tree_of(repo, object_id(commit)?)?;
    let changes = tree_diff::between(repo, None, Some(tree), true)?;
    let policy =
        planner::Policy { overwrite_ignored: false, ignore_case: prepare::ignores_case(repo)? };
    let index = gix::index::State::new(repo.object_hash());
    let (transitions, obstacles) = planner::plan(&changes, &index, policy, &mut Nothing)?;
    let mut grouped: BTreeMap<Obstacle, Vec<PathBytes>> = BTreeMap::new();
    for (obstacle, path) in obstacles {
        grouped.entry(obstacle).or_default().push(PathBytes::new(path));
    }
    let named = grouped.into_iter();
    let blockers = named.map(|(obstacle, paths)| Blocker::Paths { obstacle, paths }).collect();
    Ok((transitions.files.len(), blockers))
}
