//! Which files were renamed, as far as the merge depends on it.
//!
//! A rename matters only where the other side changed or took away the file under its old name, or
//! added something to a directory that was moved away. Git finds renames in three passes (same
//! content, same base name, most alike). What all of them must agree on is taken; where they could
//! differ the answer is that it is unclear.

use std::collections::{BTreeMap, HashMap};

use gix::bstr::{BStr, BString, ByteSlice as _};

use super::conflict::Caution;
use super::content::read;
use super::similarity::Fingerprint;
use super::triples::{Differences, Side};
use crate::error::Error;
use crate::path_bytes::PathBytes;

/// From here on a file is a rename of another, as git has it.
const ALIKE: f64 = 0.5;
/// From here on git takes a file of the same base name without looking at others.
const ALIKE_AND_NAMED_ALIKE: f64 = 0.75;
/// Differences below this are too small to rely on.
const MARGIN: f64 = 0.05;
/// How many pairs of files are compared at most.
const PAIRS: usize = 2_000_000;

/// What became of a file that a side has no more under its old name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Deleted,
    Renamed(BString),
    Unclear(Caution),
}

/// What was deleted and added on one side.
#[derive(Debug)]
pub(super) struct Renames<'a> {
    repo: &'a gix::Repository,
    /// Deleted files that hold something.
    sources: BTreeMap<&'a BStr, gix::ObjectId>,
    /// Added files that hold something.
    targets: BTreeMap<&'a BStr, gix::ObjectId>,
    sources_by_id: HashMap<gix::ObjectId, Vec<&'a BStr>>,
    targets_by_id: HashMap<gix::ObjectId, Vec<&'a BStr>>,
    fingerprints: HashMap<gix::ObjectId, Fingerprint>,
    compared: usize,
}

impl<'a> Renames<'a> {
    pub fn on(repo: &'a gix::Repository, differences: &'a Differences, side: Side) -> Self {
        let empty = repo.object_hash().empty_blob();
        let mut found = Self {
            repo,
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            sources_by_id: HashMap::new(),
            targets_by_id: HashMap::new(),
            fingerprints: HashMap::new(),
            compared: 0,
        };
        for (path, triple) in &differences.paths {
            let path = path.as_bstr();
            match (triple.base, triple.of(side)) {
                (Some(entry), None) if entry.id != empty => {
                    found.sources_by_id.entry(entry.id).or_default().push(path);
                    if entry.is_file() {
                        found.sources.insert(path, entry.id);
                    }
                }
                (None, Some(entry)) if entry.id != empty => {
                    found.targets_by_id.entry(entry.id).or_default().push(path);
                    if entry.is_file() {
                        found.targets.insert(path, entry.id);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// What became of this file, which the side has no more.
    pub fn fate(&mut self, source: &'a BStr, id: gix::ObjectId) -> Result<Fate, Error> {
        if self.targets_by_id.is_empty() || id == self.repo.object_hash().empty_blob() {
            return Ok(Fate::Deleted);
        }
        if let Some(same) = self.targets_by_id.get(&id) {
            return Ok(exact(source, same, &self.sources_by_id[&id]));
        }
        if !self.sources.contains_key(source) {
            return Ok(Fate::Deleted);
        }
        self.alike(source, id)
    }

    fn alike(&mut self, source: &'a BStr, id: gix::ObjectId) -> Result<Fate, Error> {
        let mut scores = Vec::new();
        let targets: Vec<_> = self.targets.iter().map(|(path, id)| (*path, *id)).collect();
        for (target, target_id) in targets {
            let taken = self
                .sources_by_id
                .get(&target_id)
                .is_some_and(|all| all.len() >= self.targets_by_id[&target_id].len());
            if taken {
                continue;
            }
            let Some(score) = self.score(id, target_id)? else {
                return Ok(Fate::Unclear(too_many()));
            };
            if score >= ALIKE - MARGIN {
                scores.push((score, target));
            }
        }
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let Some(&(best, target)) = scores.first() else { return Ok(Fate::Deleted) };
        let candidates = || unclear(source, scores.iter().map(|(_, target)| *target));
        if best < ALIKE {
            return Ok(candidates());
        }
        let rivals_near = scores.get(1).is_some_and(|(score, _)| *score > best - MARGIN);
        // Git takes a file of the same base name first if it is alike enough.
        let same_name = |one: &BStr, other: &BStr| base_name(one) == base_name(other);
        let by_name = scores.iter().skip(1).any(|(score, other)| {
            same_name(source, other) && *score >= ALIKE_AND_NAMED_ALIKE - MARGIN
        });
        if rivals_near || by_name {
            return Ok(candidates());
        }
        let target_id = self.targets[target];
        if self.targets_by_id[&target_id].len() > 1 {
            return Ok(candidates());
        }
        let sources: Vec<_> = self.sources.iter().map(|(path, id)| (*path, *id)).collect();
        for (rival, rival_id) in sources {
            if rival == source || self.targets_by_id.contains_key(&rival_id) {
                continue;
            }
            let Some(score) = self.score(rival_id, target_id)? else {
                return Ok(Fate::Unclear(too_many()));
            };
            let wins_by_name = same_name(rival, target)
                && !same_name(source, target)
                && score >= ALIKE_AND_NAMED_ALIKE - MARGIN;
            if score > best - MARGIN || wins_by_name {
                return Ok(candidates());
            }
        }
        Ok(Fate::Renamed(target.to_owned()))
    }

    /// Whether files of this directory of the base are found elsewhere on the side.
    pub fn directory_moved(&mut self, directory: &BStr) -> Result<bool, Error> {
        let mut prefix = directory.to_owned();
        prefix.push(b'/');
        let sources: Vec<_> = self
            .sources
            .iter()
            .filter(|(path, _)| path.starts_with(&prefix))
            .map(|(path, id)| (*path, *id))
            .collect();
        for (_, id) in &sources {
            if self.targets_by_id.contains_key(id) {
                return Ok(true);
            }
        }
        let targets: Vec<_> = self.targets.values().copied().collect();
        for (_, id) in sources {
            for target in &targets {
                if self.score(id, *target)?.is_none_or(|score| score >= ALIKE - MARGIN) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// How alike two files are; `None` after too many comparisons.
    fn score(&mut self, one: gix::ObjectId, other: gix::ObjectId) -> Result<Option<f64>, Error> {
        self.compared += 1;
        if self.compared > PAIRS {
            return Ok(None);
        }
        for id in [one, other] {
            if !self.fingerprints.contains_key(&id) {
                let fingerprint = Fingerprint::of(&read(self.repo, id)?);
                self.fingerprints.insert(id, fingerprint);
            }
        }
        Ok(Some(self.fingerprints[&one].similarity(&self.fingerprints[&other])))
    }
}

/// The content is found unchanged under other names.
fn exact(source: &BStr, targets: &[&BStr], sources: &[&BStr]) -> Fate {
    if let ([only], [_]) = (targets, sources) {
        return Fate::Renamed((*only).to_owned());
    }
    let named =
        |all: &[&'_ BStr], name: &[u8]| all.iter().filter(|path| base_name(path) == name).count();
    // Git goes through the targets in order, and each takes the source of its own base name if
    // there is one, else any; and it does not look into every directory. So the names decide only
    // where each target has a source of its own, or where order and directory say the same.
    let each_has_its_own = targets.iter().all(|target| {
        let name = base_name(target);
        named(targets, name) == 1 && named(sources, name) == 1
    });
    let directory = |path: &BStr| path.len() - base_name(path).len();
    let first_of_one_directory = match (targets, sources) {
        ([first, rest @ ..], [_]) => {
            let beside = &first[..directory(first)];
            base_name(first) == base_name(source)
                && rest.iter().all(|path| path[..directory(path)] == *beside)
        }
        _ => false,
    };
    if each_has_its_own || first_of_one_directory {
        let target = targets.iter().find(|path| base_name(path) == base_name(source));
        return target.map_or(Fate::Deleted, |target| Fate::Renamed((*target).to_owned()));
    }
    unclear(source, targets.iter().copied())
}

fn base_name(path: &BStr) -> &[u8] {
    path.rfind_byte(b'/').map_or(path.as_bytes(), |at| &path[at + 1..])
}

fn unclear<'p>(source: &BStr, targets: impl Iterator<Item = &'p BStr>) -> Fate {
    Fate::Unclear(Caution::RenameUnclear {
        path: PathBytes::new(source),
        candidates: targets.map(PathBytes::new).collect(),
    })
}

fn too_many() -> Caution {
    Caution::TooLarge { what: format!("more than {PAIRS} pairs of files may be renames") }
}
