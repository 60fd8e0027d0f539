//! What has to happen so that a work tree becomes another tree, and everything against it.
//!
//! Nothing is changed here, and nothing is read but through [`View`]: the same inputs give the same
//! answer.

mod folders;
mod untracked;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Flags, Stage};

use super::names;
use super::obstacle::Obstacle;
use super::root::{Seen, above};
use super::tree_diff::Change;
use super::two_way::{Cell, Kind, Verdict, two_way};
use crate::error::Error;

/// What the planner asks about the work tree.
pub(super) trait View {
    /// What is at a path, reached through real folders only.
    fn look(&mut self, path: &BStr) -> Result<Option<Seen>, Error>;
    /// The names in a folder.
    fn list(&mut self, folder: &BStr) -> Result<Vec<BString>, Error>;
    /// Whether what is there is what the index has; the reason where that cannot be told.
    fn unchanged(&mut self, path: &BStr, entry: &gix::index::Entry) -> Result<bool, String>;
    /// Whether git ignores a path.
    fn ignored(&mut self, path: &BStr, is_folder: bool) -> Result<bool, String>;
    /// Whether something lies on the file system on which the repository is.
    fn movable(&mut self, seen: &Seen) -> bool;
}

/// What the caller decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub overwrite_ignored: bool,
    pub ignore_case: bool,
}

/// What is at a path before it is moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Old {
    pub seen: Seen,
    /// Of an ignored file the bytes are kept for the user; others are in the repository.
    pub ignored: bool,
}

/// One path whose file changes. `old` is what has to go, if it is there; `new` is what comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transition {
    pub path: BString,
    pub old: Option<Old>,
    pub new: Option<Cell>,
}

/// What has to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Transitions {
    /// Files and links, sorted by path.
    pub files: Vec<Transition>,
    /// Folders that go if they are empty by then, the deepest first, with their modes.
    pub folders_away: Vec<(BString, u32)>,
    /// Folders that are needed, the outermost first.
    pub folders_new: Vec<BString>,
    /// What the index has in the end at each path that it changes.
    pub index: BTreeMap<BString, Option<Cell>>,
}

/// Whether the file of a tracked path may go.
enum Clean {
    /// It is as the index has it, or absent.
    Yes(Option<Seen>),
    /// It is not, and that was said.
    No,
}

struct Planner<'a, V> {
    index: &'a State,
    view: &'a mut V,
    policy: Policy,
    plan: Transitions,
    obstacles: BTreeSet<(Obstacle, BString)>,
    /// Tracked paths that leave the work tree.
    leaving: BTreeSet<BString>,
    /// Submodules that leave the index while their work trees stay.
    populated: BTreeSet<BString>,
    away: BTreeMap<BString, u32>,
    needed: BTreeSet<BString>,
    there: BTreeSet<BString>,
    files: BTreeMap<BString, Transition>,
}

/// Plans, and names every obstacle, in git's two-way table's terms.
pub(super) fn plan(
    changes: &BTreeMap<BString, Change>,
    index: &State,
    policy: Policy,
    view: &mut impl View,
) -> Result<(Transitions, BTreeSet<(Obstacle, BString)>), Error> {
    let mut planner = Planner {
        index,
        view,
        policy,
        plan: Transitions::default(),
        obstacles: BTreeSet::new(),
        leaving: BTreeSet::new(),
        populated: BTreeSet::new(),
        away: BTreeMap::new(),
        needed: BTreeSet::new(),
        there: BTreeSet::new(),
        files: BTreeMap::new(),
    };
    planner.unmerged();
    let mut coming = Vec::new();
    for (path, change) in changes {
        let path = path.as_bstr();
        let entry = index.entry_by_path_and_stage(path, Stage::Unconflicted);
        let cell = entry
            .and_then(|entry| Kind::of_index(entry.mode).map(|kind| Cell { kind, id: entry.id }));
        if let Some(new) = &change.new
            && let Some(why) = names::hostile(path, new.kind)
        {
            planner.refuse(path, Obstacle::Hostile { why: why.to_owned() });
            continue;
        }
        match two_way(cell, change.old, change.new) {
            Verdict::Keep => {
                // What is only intended to be added has no content that could be right.
                if let Some(entry) = entry
                    && entry.flags.contains(Flags::INTENT_TO_ADD)
                {
                    planner.refuse(path, Obstacle::StagedChange);
                }
            }
            Verdict::Staged => planner.refuse(path, Obstacle::StagedChange),
            Verdict::Remove => match entry {
                Some(entry) => planner.remove(path, entry)?,
                None => planner.absent(path)?,
            },
            Verdict::Take => {
                let new = change.new.expect("only what the new tree has is taken");
                coming.push((path, entry, new));
            }
        }
    }
    for (path, _, new) in &coming {
        planner.plan.index.insert((*path).to_owned(), Some(*new));
    }
    for (path, entry, new) in coming {
        match entry {
            Some(entry) => planner.replace(path, entry, new)?,
            None => planner.create(path, new)?,
        }
    }
    planner.kept_in_the_way();
    planner.cases();
    planner.emptied()?;
    planner.end()
}
impl<V: View> Planner<'_, V> {
    fn refuse(&mut self, path: &BStr, obstacle: Obstacle) {
        self.obstacles.insert((obstacle, path.to_owned()));
    }

    fn unreadable(&mut self, path: &BStr, reason: impl Into<String>) {
        self.refuse(path, Obstacle::Unreadable { reason: reason.into() });
    }

    /// What is at a path, after a look at the folders on the way. `Err` says that one of them is
    /// none.
    fn reach(&mut self, path: &BStr) -> Result<Result<Option<Seen>, BString>, Error> {
        for folder in above(path) {
            match self.view.look(folder)? {
                None => return Ok(Ok(None)),
                Some(seen) if seen.is_folder() => {}
                Some(_) => return Ok(Err(folder.to_owned())),
            }
        }
        self.view.look(path).map(Ok)
    }

    /// Whether the file of a tracked path may go.
    fn clean(&mut self, path: &BStr, entry: &gix::index::Entry) -> Result<Clean, Error> {
        let seen = match self.reach(path)? {
            Ok(seen) => seen,
            Err(folder) => {
                self.refuse(folder.as_bstr(), Obstacle::ParentIsNoFolder);
                return Ok(Clean::No);
            }
        };
        let Some(found) = seen else { return Ok(Clean::Yes(None)) };
        match self.view.unchanged(path, entry) {
            Ok(true) => {}
            Ok(false) => {
                self.refuse(path, Obstacle::LocalChange);
                return Ok(Clean::No);
            }
            Err(reason) => {
                self.unreadable(path, reason);
                return Ok(Clean::No);
            }
        }
        Ok(if self.movable(path, &found) { Clean::Yes(Some(found)) } else { Clean::No })
    }

    fn movable(&mut self, path: &BStr, seen: &Seen) -> bool {
        let movable = self.view.movable(seen);
        if !movable {
            self.refuse(path, Obstacle::OtherFileSystem);
        }
        movable
    }

    fn remove(&mut self, path: &BStr, entry: &gix::index::Entry) -> Result<(), Error> {
        self.plan.index.insert(path.to_owned(), None);
        if Kind::of_index(entry.mode) == Some(Kind::Submodule) {
            // An empty folder goes; one with a work tree in it stays, as git leaves it.
            match self.reach(path)? {
                Ok(Some(seen)) if seen.is_folder() => {
                    self.away.insert(path.to_owned(), seen.mode);
                    let empty = self.view.list(path)?.is_empty();
                    let set = if empty { &mut self.leaving } else { &mut self.populated };
                    set.insert(path.to_owned());
                }
                _ => {}
            }
            return Ok(());
        }
        let Clean::Yes(seen) = self.clean(path, entry)? else { return Ok(()) };
        self.leaving.insert(path.to_owned());
        let old = seen.map(|seen| Old { seen, ignored: false });
        self.file(path, old, None);
        Ok(())
    }

    fn file(&mut self, path: &BStr, old: Option<Old>, new: Option<Cell>) {
        let path = path.to_owned();
        self.files.insert(path.clone(), Transition { path, old, new });
    }

    fn replace(&mut self, path: &BStr, entry: &gix::index::Entry, new: Cell) -> Result<(), Error> {
        let was_submodule = Kind::of_index(entry.mode) == Some(Kind::Submodule);
        if was_submodule {
            match self.reach(path)? {
                Ok(Some(seen)) if seen.is_folder() && new.kind == Kind::Submodule => {
                    return Ok(());
                }
                Ok(Some(seen)) if seen.is_folder() => {
                    if !self.view.list(path)?.is_empty() {
                        self.refuse(path, Obstacle::Submodule);
                        return Ok(());
                    }
                    self.away.insert(path.to_owned(), seen.mode);
                    return self.put(path, None, new);
                }
                Ok(None) => return self.put(path, None, new),
                Ok(Some(_)) => self.refuse(path, Obstacle::LocalChange),
                Err(folder) => {
                    self.refuse(folder.as_bstr(), Obstacle::ParentIsNoFolder);
                }
            }
            return Ok(());
        }
        let Clean::Yes(seen) = self.clean(path, entry)? else { return Ok(()) };
        let old = seen.map(|seen| Old { seen, ignored: false });
        self.put(path, old, new)
    }

    /// Puts something new where nothing, or `old`, is.
    fn put(&mut self, path: &BStr, old: Option<Old>, new: Cell) -> Result<(), Error> {
        for folder in above(path) {
            if self.populated.contains(folder) {
                self.refuse(folder, Obstacle::Submodule);
            }
            self.need(folder)?;
        }
        if new.kind == Kind::Submodule {
            self.need(path)?;
            if old.is_some() {
                self.file(path, old, None);
            }
            return Ok(());
        }
        // The folder into which it goes must be on the same file system, too.
        if old.is_none()
            && let Some(folder) = self.nearest(path)?
        {
            self.movable(path, &folder);
        }
        self.file(path, old, Some(new));
        Ok(())
    }

    fn end(mut self) -> Result<(Transitions, BTreeSet<(Obstacle, BString)>), Error> {
        for (path, mode) in std::mem::take(&mut self.away).into_iter().rev() {
            if !self.holds_something(path.as_bstr())? {
                self.plan.folders_away.push((path, mode));
            }
        }
        self.plan.files = self.files.into_values().collect();
        self.plan.folders_new = self.needed.into_iter().collect();
        Ok((self.plan, self.obstacles))
    }
}
