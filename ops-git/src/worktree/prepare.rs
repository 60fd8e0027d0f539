//! Everything that is known before anything moves: transitions, the next index, every obstacle.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::Flags;
use gix::worktree::stack::state::attributes::Source;

use super::head;
use super::index_file::{self, Index};
use super::look::Look;
use super::memo::Memo;
use super::obstacle::Obstacle;
use super::place::Switch;
use super::planner::{self, Policy, Transitions};
use super::root::{Root, above};
use super::staged::{decided, staged};
use super::two_way::{Cell, Kind};
use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::export::Rules;
use crate::id::object_id;
use crate::path_bytes::PathBytes;

/// A switch that was looked at.
pub(super) struct Prepared {
    pub transitions: Transitions,
    pub index: Arc<Index>,
    /// The next index; what is new in it has no stat yet.
    pub next: State,
    pub blockers: Vec<Blocker>,
}

pub(super) fn workdir(repo: &gix::Repository) -> Result<Root, Error> {
    let folder = repo.workdir().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the repository has no work tree")
            .remedy("export from a bare repository instead")
    })?;
    let folder = folder.canonicalize().map_err(|source| Error::io("find", folder, source))?;
    Root::open(&folder)
}

pub(super) fn tree_of(repo: &gix::Repository, id: gix::ObjectId) -> Result<gix::ObjectId, Error> {
    repo.find_commit(id)
        .and_then(|commit| commit.tree_id().map(gix::Id::detach))
        .doing(|| format!("commit {id} cannot be read"))
}

/// Whether the file system takes names for one that differ in case alone, as the configuration has
/// it.
pub(super) fn ignores_case(repo: &gix::Repository) -> Result<bool, Error> {
    let options = repo.filesystem_options().doing(|| "the configuration cannot be read".into())?;
    Ok(options.ignore_case)
}

/// Looks at everything that a switch would touch. Reads only.
pub(super) fn prepare(
    repo: &gix::Repository,
    root: &Root,
    switch: &Switch,
    memo: &Memo,
) -> Result<Prepared, Error> {
    let old = switch.old.as_ref().map(object_id).transpose()?;
    let old = old.map(|id| tree_of(repo, id)).transpose()?;
    let new = tree_of(repo, object_id(&switch.new)?)?;
    let index = memo.index(repo)?;
    let mut blockers = Vec::new();
    if index.split {
        blockers.push(Blocker::SplitIndex);
    }
    let skipped = |entry: &gix::index::Entry| entry.flags.contains(Flags::SKIP_WORKTREE);
    if index.state.is_sparse() || index.state.entries().iter().any(skipped) {
        blockers.push(Blocker::Sparse);
    }
    if !blockers.is_empty() {
        let next = index.state.clone();
        return Ok(Prepared { transitions: Transitions::default(), index, next, blockers });
    }
    // Without an index, as after a clone that checked nothing out, every path is new.
    let mut changes = memo.changes(repo, (old, new, !index.existed))?;
    if !index.existed {
        for change in Arc::make_mut(&mut changes).values_mut().filter(|change| change.new.is_some())
        {
            change.old = None;
        }
    }
    let ignore_case = ignores_case(repo)?;
    let policy = Policy { overwrite_ignored: switch.overwrite_ignored, ignore_case };
    let mut look = Look::new(repo, root, &index.state)?;
    let (transitions, mut obstacles) = planner::plan(&changes, &index.state, policy, &mut look)?;
    drop(look);
    if switch.whole_index {
        let staged = decided(staged(repo, old, &index.state)?, &index.state);
        obstacles.extend(staged.into_iter().map(|path| (Obstacle::StagedChange, path)));
    }
    let next = index_file::changed(&index.state, &transitions.index);
    for (path, filter) in filters_missing(repo, &next, &transitions)? {
        obstacles.insert((Obstacle::FilterMissing { filter }, path));
    }
    let mut grouped: BTreeMap<Obstacle, Vec<PathBytes>> = BTreeMap::new();
    for (obstacle, path) in obstacles {
        grouped.entry(obstacle).or_default().push(PathBytes::new(path));
    }
    let named = grouped.into_iter().map(|(obstacle, paths)| Blocker::Paths { obstacle, paths });
    blockers.extend(named);
    Ok(Prepared { transitions, index, next, blockers })
}

/// New files whose filter must not be left out, and has no command.
fn filters_missing(
    repo: &gix::Repository,
    next: &State,
    transitions: &Transitions,
) -> Result<Vec<(BString, String)>, Error> {
    let config = repo.config_snapshot();
    if config.plumbing().sections_by_name("filter").is_none() {
        return Ok(Vec::new());
    }
    let mut rules = NewRules::new(repo, next, transitions)?;
    let mut found = Vec::new();
    for (path, cell) in new_files(transitions) {
        if cell.kind == Kind::Link {
            continue;
        }
        let Some(filter) = rules.at(path).filter(path)? else { continue };
        let set = |what: &str| config.string(format!("filter.{filter}.{what}").as_str());
        let required = config.boolean(format!("filter.{filter}.required").as_str());
        let runs = |what: &str| set(what).is_some_and(|command| !command.is_empty());
        if required == Some(true) && !runs("smudge") && !runs("process") {
            found.push((path.to_owned(), filter));
        }
    }
    Ok(found)
}

/// The attributes that decide what new files become, as git has it on checkout: the index has the
/// first word, then attribute files that lie about untracked.
pub(super) struct NewRules<'repo, 'a> {
    around: Rules<'repo>,
    index_only: Rules<'repo>,
    /// Files and links that are in place now, and will not be.
    going: HashSet<&'a BStr>,
}

impl<'repo, 'a> NewRules<'repo, 'a> {
    pub(super) fn new(
        repo: &'repo gix::Repository,
        next: &State,
        transitions: &'a Transitions,
    ) -> Result<Self, Error> {
        let gone = transitions.files.iter().filter(|file| file.old.is_some());
        Ok(Self {
            around: Rules::with_index(repo, next, Source::IdMappingThenWorktree)?,
            index_only: Rules::with_index(repo, next, Source::IdMapping)?,
            going: gone.map(|file| file.path.as_bstr()).collect(),
        })
    }

    /// Those of a path. In a folder that takes the place of a link nothing lies about, and what the
    /// link leads to is not to be asked.
    pub(super) fn at(&mut self, path: &BStr) -> &mut Rules<'repo> {
        let replaced = above(path).any(|folder| self.going.contains(folder));
        if replaced { &mut self.index_only } else { &mut self.around }
    }
}

pub(super) fn new_files(transitions: &Transitions) -> impl Iterator<Item = (&BStr, Cell)> {
    transitions.files.iter().filter_map(|file| file.new.map(|cell| (file.path.as_bstr(), cell)))
}

/// `HEAD` must be where the plan saw it.
pub(crate) fn expect_head(repo: &gix::Repository, switch: &Switch) -> Result<(), Error> {
    let (position, commit) = head::now(repo)?;
    if position == switch.head_from && commit == switch.old {
        return Ok(());
    }
    let at = |commit: &Option<ops_core::CommitId>| {
        commit.as_ref().map_or_else(|| "no commit".to_owned(), ToString::to_string)
    };
    Err(Error::new(
        ErrorKind::Moved,
        format!(
            "HEAD is on {position} at {}, the plan expects {} at {}",
            at(&commit),
            switch.head_from,
            at(&switch.old)
        ),
    )
    .remedy("somebody moved it since: plan afresh"))
}
