//! What has to happen so that a work tree becomes another tree, and everything against it.
//!
//! Nothing is changed here, and nothing is read but through [`View`]: the same inputs give the same
//! answer.

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

/// What is in a folder besides what the index has.
struct Inside {
    /// Nothing tracked stays in it.
    free: bool,
    files: Vec<(BString, Seen)>,
    /// The folder and all below it, with their modes.
    folders: Vec<(BString, u32)>,
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

    fn unmerged(&mut self) {
        for entry in self.index.entries() {
            if entry.stage() != Stage::Unconflicted {
                self.refuse(entry.path(self.index), Obstacle::Unmerged);
            }
        }
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

    /// Neither the index nor the new tree has the path: what is there belongs to nobody.
    fn absent(&mut self, path: &BStr) -> Result<(), Error> {
        let (path, seen) = match self.reach(path)? {
            Ok(None) => return Ok(()),
            Ok(Some(seen)) => (path.to_owned(), seen),
            Err(folder) if self.leaving.contains(&folder) => return Ok(()),
            Err(folder) => match self.view.look(folder.as_bstr())? {
                Some(seen) => (folder, seen),
                None => return Ok(()),
            },
        };
        let path = path.as_bstr();
        match self.view.ignored(path, seen.is_folder()) {
            Ok(true) => {}
            Ok(false) if seen.is_folder() => {
                if !self.untracked_inside(path)?.files.is_empty() {
                    self.refuse(path, Obstacle::Untracked);
                }
            }
            Ok(false) => self.refuse(path, Obstacle::Untracked),
            Err(reason) => self.unreadable(path, reason),
        }
        Ok(())
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

    /// A folder that must be there; only one that is not there yet is made, and unmade again.
    fn need(&mut self, folder: &BStr) -> Result<(), Error> {
        if self.there.contains(folder) || self.needed.contains(folder) {
            return Ok(());
        }
        let is_there = self.view.look(folder)?.is_some_and(|seen| seen.is_folder());
        let set = if is_there { &mut self.there } else { &mut self.needed };
        set.insert(folder.to_owned());
        Ok(())
    }

    /// The innermost folder above a path that exists.
    fn nearest(&mut self, path: &BStr) -> Result<Option<Seen>, Error> {
        let mut found = None;
        for folder in above(path) {
            match self.view.look(folder)? {
                Some(seen) if seen.is_folder() => found = Some(seen),
                _ => break,
            }
        }
        Ok(found)
    }

    /// A path that is new to the index: nothing of anybody's may be there.
    fn create(&mut self, path: &BStr, new: Cell) -> Result<(), Error> {
        let seen = match self.reach(path)? {
            Ok(seen) => seen,
            Err(folder) => {
                let free = self.leaving.contains(&folder) || self.give_way(folder.as_bstr())?;
                if !free {
                    return Ok(());
                }
                None
            }
        };
        let Some(seen) = seen else { return self.put(path, None, new) };
        if !seen.is_folder() {
            // A tracked file that leaves under this very name would have been replaced instead.
            return match self.may_overwrite(path, &seen) {
                Some(old) => self.put(path, Some(old), new),
                None => Ok(()),
            };
        }
        if new.kind == Kind::Submodule {
            // A folder that is there is where its work tree will be.
            return Ok(());
        }
        let inside = self.untracked_inside(path)?;
        self.away.extend(inside.folders);
        let mut may = inside.free;
        for (child, seen) in inside.files {
            match self.view.ignored(child.as_bstr(), false) {
                Ok(true) if self.policy.overwrite_ignored => {
                    if self.movable(child.as_bstr(), &seen) {
                        self.file(child.as_bstr(), Some(Old { seen, ignored: true }), None);
                    }
                }
                Ok(true) => {
                    self.refuse(child.as_bstr(), Obstacle::Ignored);
                    may = false;
                }
                Ok(false) => {
                    self.refuse(child.as_bstr(), Obstacle::Folder);
                    may = false;
                }
                Err(reason) => {
                    self.unreadable(child.as_bstr(), reason);
                    may = false;
                }
            }
        }
        if may { self.put(path, None, new) } else { Ok(()) }
    }

    /// Whether an untracked file may be moved away, and as what.
    fn may_overwrite(&mut self, path: &BStr, seen: &Seen) -> Option<Old> {
        match self.view.ignored(path, false) {
            Ok(true) if self.policy.overwrite_ignored => {
                return self.movable(path, seen).then_some(Old { seen: *seen, ignored: true });
            }
            Ok(true) => self.refuse(path, Obstacle::Ignored),
            Ok(false) => self.refuse(path, Obstacle::Untracked),
            Err(reason) => self.unreadable(path, reason),
        }
        None
    }

    /// An untracked file where a folder has to be.
    fn give_way(&mut self, path: &BStr) -> Result<bool, Error> {
        // It is planned already: another path lies below it, too.
        if self.files.contains_key(path) {
            return Ok(true);
        }
        if self.index.entry_by_path_and_stage(path, Stage::Unconflicted).is_some() {
            // Its own row of the table has spoken, or `kept_in_the_way` will.
            return Ok(false);
        }
        if self.index.prefixed_entries(slashed(path).as_bstr()).is_some_and(|all| !all.is_empty()) {
            self.refuse(path, Obstacle::ParentIsNoFolder);
            return Ok(false);
        }
        let Some(seen) = self.view.look(path)? else { return Ok(true) };
        let Some(old) = self.may_overwrite(path, &seen) else { return Ok(false) };
        self.file(path, Some(old), None);
        Ok(true)
    }

    /// What is in a folder besides what the index has.
    fn untracked_inside(&mut self, folder: &BStr) -> Result<Inside, Error> {
        let mut inside = Inside { free: true, files: Vec::new(), folders: Vec::new() };
        let mut left = vec![folder.to_owned()];
        while let Some(folder) = left.pop() {
            if let Some(seen) = self.view.look(folder.as_bstr())? {
                inside.folders.push((folder.clone(), seen.mode));
            }
            for name in self.view.list(folder.as_bstr())? {
                let mut path = folder.clone();
                path.push(b'/');
                path.extend_from_slice(&name);
                let Some(seen) = self.view.look(path.as_bstr())? else { continue };
                if name.eq_ignore_ascii_case(b".git") {
                    self.refuse(folder.as_bstr(), Obstacle::Folder);
                    inside.free = false;
                } else if self
                    .index
                    .entry_by_path_and_stage(path.as_bstr(), Stage::Unconflicted)
                    .is_some()
                {
                    inside.free &= self.leaving.contains(&path);
                } else if seen.is_folder() {
                    left.push(path);
                } else {
                    inside.files.push((path, seen));
                }
            }
        }
        if !inside.free {
            self.refuse(folder, Obstacle::Folder);
        }
        Ok(inside)
    }

    /// Paths that the index keeps and the new tree does not know must fit among the new ones.
    fn kept_in_the_way(&mut self) {
        let kept = |path: &BStr, plan: &Transitions| match plan.index.get(path) {
            Some(cell) => cell.is_some(),
            None => self.index.entry_by_path_and_stage(path, Stage::Unconflicted).is_some(),
        };
        let mut clash = BTreeSet::new();
        for (path, cell) in &self.plan.index {
            if cell.is_none() {
                continue;
            }
            clash.extend(
                above(path.as_bstr()).filter(|f| kept(f, &self.plan)).map(ToOwned::to_owned),
            );
            for entry in
                self.index.prefixed_entries(slashed(path.as_bstr()).as_bstr()).into_iter().flatten()
            {
                let below = entry.path(self.index);
                if kept(below, &self.plan) {
                    clash.insert(below.to_owned());
                }
            }
        }
        for path in clash {
            self.refuse(path.as_bstr(), Obstacle::StagedInTheWay);
        }
    }

    fn cases(&mut self) {
        if !self.policy.ignore_case {
            return;
        }
        let mut all: BTreeSet<&BStr> =
            self.index.entries().iter().map(|entry| entry.path(self.index)).collect();
        // What goes is still there when its namesake comes.
        let new = self.plan.index.iter().filter(|(_, cell)| cell.is_some());
        all.extend(new.map(|(path, _)| path.as_bstr()));
        let coming = |path: &BString| {
            let below = slashed(path.as_bstr());
            self.plan
                .index
                .iter()
                .any(|(new, cell)| cell.is_some() && (new == path || new.starts_with(&below)))
        };
        let found: Vec<_> = names::collisions(all.into_iter())
            .into_iter()
            .filter(|(one, other)| coming(one) || coming(other))
            .collect();
        for (one, other) in found {
            let with = one.to_str_lossy().into_owned();
            self.refuse(other.as_bstr(), Obstacle::CaseCollision { with });
        }
    }

    /// Folders that nothing tracked is left in.
    fn emptied(&mut self) -> Result<(), Error> {
        let gone: Vec<_> = self
            .plan
            .index
            .iter()
            .filter(|(_, cell)| cell.is_none())
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            for folder in above(path.as_bstr()) {
                if self.away.contains_key(folder) || self.holds_something(folder)? {
                    continue;
                }
                if let Some(seen) = self.view.look(folder)?
                    && seen.is_folder()
                {
                    self.away.insert(folder.to_owned(), seen.mode);
                }
            }
        }
        Ok(())
    }

    /// Whether something will lie in a folder in the end. What the user has taken away himself does
    /// not come back, though the index keeps it.
    fn holds_something(&mut self, folder: &BStr) -> Result<bool, Error> {
        let below = slashed(folder);
        // A submodule is a folder of its own.
        if self.plan.index.get(folder).is_some_and(Option::is_some)
            && !self.files.contains_key(folder)
        {
            return Ok(true);
        }
        for (path, cell) in self.plan.index.range(below.clone()..) {
            if !path.starts_with(&below) {
                break;
            }
            let stays = match self.files.get(path) {
                Some(file) => file.new.is_some(),
                None => cell.is_some_and(|cell| cell.kind == Kind::Submodule),
            };
            if stays || self.populated.contains(path) {
                return Ok(true);
            }
        }
        let index = self.index;
        for entry in index.prefixed_entries(below.as_bstr()).into_iter().flatten() {
            let path = entry.path(index);
            if !self.files.contains_key(path) && self.view.look(path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
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

fn slashed(path: &BStr) -> BString {
    let mut path = path.to_owned();
    path.push(b'/');
    path
}
