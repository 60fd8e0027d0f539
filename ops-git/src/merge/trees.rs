//! Merging three trees, in memory.

use std::collections::{BTreeMap, BTreeSet};

use gix::bstr::{BStr, BString, ByteSlice as _};

use super::conflict::{Caution, Conflict, ConflictKind, Stage};
use super::content::{Resolved, resolve};
use super::drivers::Drivers;
use super::renames::{Fate, Renames};
use super::triples::{Differences, Entry, Side, Triple};
use crate::error::{Error, GitResult as _};
use crate::path_bytes::PathBytes;

/// What became of three trees.
#[derive(Debug, Default)]
pub(super) struct MergedTrees {
    /// What our tree has to become, by path; `None` is gone. Without what conflicts.
    pub edits: BTreeMap<BString, Option<Entry>>,
    pub conflicts: Vec<Conflict>,
    pub cautions: Vec<Caution>,
}

/// What a merge of trees is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be kept.
    Result,
    /// To be the base of another merge. Git does not follow renamed directories there.
    Base,
}

pub(super) fn merge(
    repo: &gix::Repository,
    [base, ours, theirs]: [gix::ObjectId; 3],
    purpose: Purpose,
    drivers: &mut Drivers,
) -> Result<MergedTrees, Error> {
    let differences = Differences::between(repo, base, ours, theirs)?;
    let mut merge = Merge {
        triples: differences.paths.clone(),
        done: BTreeSet::new(),
        out: MergedTrees::default(),
    };
    merge.renames(repo, &differences, purpose)?;
    merge.paths(repo, drivers)?;
    merge.clashes();
    merge.out.conflicts.sort();
    merge.out.cautions.sort();
    merge.out.cautions.dedup();
    Ok(merge.out)
}

struct Merge {
    triples: BTreeMap<BString, Triple>,
    /// Paths of renames that conflict: they are not merged by themselves.
    done: BTreeSet<BString>,
    out: MergedTrees,
}

impl Merge {
    /// Finds the renames that matter, and lets each file be merged under its new name.
    fn renames(
        &mut self,
        repo: &gix::Repository,
        differences: &Differences,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let mut ours = Renames::on(repo, differences, Side::Ours);
        let mut theirs = Renames::on(repo, differences, Side::Theirs);
        for (path, triple) in &differences.paths {
            let Some(base) = triple.base else { continue };
            let source = path.as_bstr();
            match (triple.ours, triple.theirs) {
                (None, None) => {
                    let fates = (ours.fate(source, base.id)?, theirs.fate(source, base.id)?);
                    self.gone_on_both(source, base, fates);
                }
                (None, Some(other)) if other != base => {
                    let fate = ours.fate(source, base.id)?;
                    self.gone_on_one(source, base, Side::Ours, fate);
                }
                (Some(other), None) if other != base => {
                    let fate = theirs.fate(source, base.id)?;
                    self.gone_on_one(source, base, Side::Theirs, fate);
                }
                _ => {}
            }
        }
        if purpose == Purpose::Result {
            self.moved_directories(differences, Side::Ours, &mut ours)?;
            self.moved_directories(differences, Side::Theirs, &mut theirs)?;
        }
        Ok(())
    }

    fn gone_on_both(&mut self, source: &BStr, base: Entry, fates: (Fate, Fate)) {
        match fates {
            (Fate::Deleted, Fate::Deleted) => {}
            (Fate::Unclear(caution), _) | (_, Fate::Unclear(caution)) => {
                self.out.cautions.push(caution);
            }
            (Fate::Renamed(one), Fate::Renamed(other)) if one == other => {
                if let Some(triple) = self.triples.get_mut(&one) {
                    triple.base = Some(base);
                }
            }
            (Fate::Renamed(one), Fate::Renamed(other)) => {
                let mine = self.triples.get(&one).and_then(|triple| triple.ours);
                let their = self.triples.get(&other).and_then(|triple| triple.theirs);
                self.conflict(
                    source,
                    ConflictKind::RenamedTwice,
                    [Some((source, base)), at(one.as_bstr(), mine), at(other.as_bstr(), their)],
                );
                self.done.extend([source.to_owned(), one, other]);
            }
            (Fate::Renamed(to), Fate::Deleted) => {
                let mine = self.triples.get(&to).and_then(|triple| triple.ours);
                let stages = [at(to.as_bstr(), Some(base)), at(to.as_bstr(), mine), None];
                self.conflict(to.as_bstr(), ConflictKind::RenamedDeleted, stages);
                self.done.extend([source.to_owned(), to]);
            }
            (Fate::Deleted, Fate::Renamed(to)) => {
                let their = self.triples.get(&to).and_then(|triple| triple.theirs);
                let stages = [at(to.as_bstr(), Some(base)), None, at(to.as_bstr(), their)];
                self.conflict(to.as_bstr(), ConflictKind::RenamedDeleted, stages);
                self.done.extend([source.to_owned(), to]);
            }
        }
    }

    /// The other side changed it under its old name.
    fn gone_on_one(&mut self, source: &BStr, base: Entry, side: Side, fate: Fate) {
        match fate {
            Fate::Deleted => {}
            Fate::Unclear(caution) => {
                self.out.cautions.push(caution);
                self.done.insert(source.to_owned());
            }
            Fate::Renamed(to) => {
                let Some(old) = self.triples.get(source).copied() else { return };
                let Some(new) = self.triples.get(&to).copied() else { return };
                let changed = old.of(side.other());
                let same_type = changed.is_some_and(|changed| changed.same_type(base));
                if new.of(side.other()).is_some() || new.base.is_some() || !same_type {
                    let mut stages = new;
                    stages.base = Some(base);
                    self.conflict_of(to.as_bstr(), ConflictKind::RenamedOnto, &stages);
                    self.done.extend([source.to_owned(), to]);
                    return;
                }
                if let Some(triple) = self.triples.get_mut(&to) {
                    triple.base = Some(base);
                    triple.set(side.other(), changed);
                }
                if let Some(triple) = self.triples.get_mut(source) {
                    *triple = Triple { base: Some(base), ..Triple::default() };
                }
            }
        }
    }

    /// What the other side added to a directory that this side moved away.
    fn moved_directories(
        &mut self,
        differences: &Differences,
        side: Side,
        renames: &mut Renames<'_>,
    ) -> Result<(), Error> {
        let mut known: BTreeMap<BString, bool> = BTreeMap::new();
        for (path, triple) in &differences.paths {
            let (None, Some(_)) = (triple.base, triple.of(side.other())) else { continue };
            for end in path.find_iter(b"/") {
                let directory = path[..end].as_bstr();
                if !differences.gone(side).contains(directory) {
                    continue;
                }
                let moved = if let Some(moved) = known.get(directory) {
                    *moved
                } else {
                    let moved = renames.directory_moved(directory)?;
                    known.insert(directory.to_owned(), moved);
                    moved
                };
                if moved {
                    self.conflict_of(path.as_bstr(), ConflictKind::DirectoryRenamed, triple);
                    self.done.insert(path.clone());
                }
                break;
            }
        }
        Ok(())
    }

    fn paths(&mut self, repo: &gix::Repository, drivers: &mut Drivers) -> Result<(), Error> {
        let triples = std::mem::take(&mut self.triples);
        for (path, triple) in &triples {
            if self.done.contains(path) {
                continue;
            }
            match resolve(repo, drivers, path.as_bstr(), triple)? {
                Resolved::To(entry) => {
                    self.out.edits.insert(path.clone(), entry);
                }
                Resolved::Conflict(kind) => self.conflict_of(path.as_bstr(), kind, triple),
                Resolved::Unsure(caution) => self.out.cautions.push(caution),
            }
        }
        self.triples = triples;
        Ok(())
    }

    /// A file where another path needs a directory.
    fn clashes(&mut self) {
        let conflicting = self.out.conflicts.iter().flat_map(|c| c.stages.iter().flatten());
        let mut files: BTreeSet<BString> =
            conflicting.map(|stage| BString::from(stage.path.as_bytes())).collect();
        let kept = self.out.edits.iter().filter(|(_, entry)| entry.is_some());
        files.extend(kept.map(|(path, _)| path.clone()));
        let mut clashing = BTreeSet::new();
        for path in &files {
            for end in path.find_iter(b"/") {
                if files.contains(path[..end].as_bstr()) {
                    clashing.insert(path[..end].as_bstr().to_owned());
                }
            }
        }
        for path in clashing {
            let triple = self.triples.get(&path).copied().unwrap_or_default();
            self.out.conflicts.retain(|c| c.path.as_bytes() != path.as_slice());
            self.conflict_of(path.as_bstr(), ConflictKind::DirectoryFile, &triple);
        }
    }

    fn conflict_of(&mut self, path: &BStr, kind: ConflictKind, triple: &Triple) {
        let stages = [triple.base, triple.ours, triple.theirs].map(|entry| at(path, entry));
        self.conflict(path, kind, stages);
    }

    fn conflict(&mut self, path: &BStr, kind: ConflictKind, stages: [Option<(&BStr, Entry)>; 3]) {
        let stages = stages.map(|stage| {
            stage.map(|(path, entry)| Stage {
                path: PathBytes::new(path),
                mode: entry.mode(),
                id: entry.id.to_string(),
            })
        });
        self.out.conflicts.push(Conflict { path: PathBytes::new(path), kind, stages });
    }
}

fn at(path: &BStr, entry: Option<Entry>) -> Option<(&BStr, Entry)> {
    entry.map(|entry| (path, entry))
}

/// Makes the merged tree of what was resolved, in the repository's memory.
pub(super) fn write(
    repo: &gix::Repository,
    ours: gix::ObjectId,
    edits: &BTreeMap<BString, Option<Entry>>,
) -> Result<gix::ObjectId, Error> {
    let doing = || "the merged tree cannot be made".to_owned();
    let mut editor = repo.edit_tree(ours).doing(doing)?;
    // First what goes: a file may make room for a directory, or the other way round.
    for (path, _) in edits.iter().filter(|(_, entry)| entry.is_none()) {
        editor.remove(path.as_bstr()).doing(doing)?;
    }
    for (path, entry) in edits {
        if let Some(entry) = entry {
            editor.upsert(path.as_bstr(), entry.kind, entry.id).doing(doing)?;
        }
    }
    Ok(editor.write().doing(doing)?.detach())
}
