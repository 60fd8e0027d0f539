//! Making a work tree another commit's, in place.
//!
//! A [`planner`] that only reads says what has to happen at each path, in the terms of git's table
//! for two trees, and names everything against it at once. Then, under the lock of the index: what
//! is to come is staged whole below `.git/ops/<operation>/` and made durable; a manifest is
//! written; each path is exchanged in one instant with what is staged for it; the index and `HEAD`
//! are moved by rename. Until the operation has committed, what was there lies in the same folder,
//! so that going back needs renames only. What belongs to neither side is never overwritten and
//! never removed: it is saved below `.git/ops/lost/<operation>/`.

mod back;
mod browse;
mod forth;
mod head;
mod index_file;
mod lock;
mod look;
mod names;
mod obstacle;
mod open_index;
mod place;
mod planner;
mod prepare;
mod room;
mod root;
mod stage;
mod tree_diff;
mod two_way;
mod verify;

pub use head::HeadPosition;
pub use obstacle::Obstacle;

pub(crate) use back::{release, undo};
pub(crate) use forth::{check, run};
pub(crate) use head::now as head_now;
pub(crate) use lock::is_stale;
pub(crate) use open_index::OpenIndex;
pub(crate) use place::{Switch, interrupted};
pub(crate) use verify::verify;

use crate::blocker::Blocker;
use crate::error::Error;

/// What a switch would do, in numbers, and everything against it. Reads only.
pub(crate) struct Foreseen {
    pub files_new: usize,
    pub files_changed: usize,
    pub files_removed: usize,
    pub blockers: Vec<Blocker>,
}

pub(crate) fn foresee(repo: &gix::Repository, switch: &Switch) -> Result<Foreseen, Error> {
    let root = prepare::workdir(repo)?;
    let mut prepared = prepare::prepare(repo, &root, switch)?;
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
