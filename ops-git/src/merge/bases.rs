//! What two commits have in common: one commit, or several whose merge stands for them.

use std::collections::BTreeSet;

use gix::bstr::BString;

use super::conflict::{Caution, ConflictKind};
use super::drivers::Drivers;
use super::trees::{self, Purpose};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::path_bytes::{PathBytes, on_disk};

/// How deep merges of merge bases may nest.
const DEPTH: usize = 20;
/// How many merge bases are merged at most.
const BASES: usize = 16;

/// The tree that two commits have in common.
#[derive(Debug)]
pub(super) struct CommonTree {
    pub tree: gix::ObjectId,
    /// Paths whose content in it is not known, for there the merge bases exclude each other.
    pub unknown: BTreeSet<BString>,
}

/// Every merge base of two commits, best first.
pub(super) fn merge_bases(
    repo: &gix::Repository,
    one: gix::ObjectId,
    others: &[gix::ObjectId],
) -> Result<Vec<gix::ObjectId>, Error> {
    let cache = repo.commit_graph_if_enabled().history(one)?;
    let mut graph = repo.revision_graph(cache.as_ref());
    let found = repo.merge_bases_many_with_graph(one, others, &mut graph).history(one)?;
    let found: Vec<_> = found.into_iter().map(gix::Id::detach).collect();
    // A missing commit ends that search without a word, as if history began there.
    let seen = graph.detach();
    for (commit, parents) in seen.iter().map(|(id, commit)| (id, &commit.parents)) {
        let missing = parents.iter().find(|id| !seen.contains_key(*id) && !repo.has_object(**id));
        if let Some(missing) = missing {
            return Err(Error::new(
                ErrorKind::HistoryUnavailable,
                format!("commit {missing}, a parent of {commit}, is missing"),
            )
            .remedy("fetch the rest with `git fetch --unshallow`, or mirror afresh"));
        }
    }
    Ok(found)
}

/// Makes one tree of several merge bases, in memory, as git does: by merging them. A path in
/// which they exclude each other, or where it is unclear how they merge, is unknown.
pub(super) fn common_tree(
    repo: &gix::Repository,
    bases: &[gix::ObjectId],
    drivers: &mut Drivers,
) -> Result<Result<CommonTree, Caution>, Error> {
    combine(repo, bases, drivers, 0)
}

fn combine(
    repo: &gix::Repository,
    bases: &[gix::ObjectId],
    drivers: &mut Drivers,
    depth: usize,
) -> Result<Result<CommonTree, Caution>, Error> {
    let crossed = || Ok(Err(Caution::CrissCross { path: None }));
    if depth > DEPTH || bases.len() > BASES {
        return crossed();
    }
    // Git begins with the oldest.
    let mut oldest_first = bases.iter().rev().copied();
    let Some(first) = oldest_first.next() else {
        return Ok(Ok(CommonTree {
            tree: repo.object_hash().empty_tree(),
            unknown: BTreeSet::new(),
        }));
    };
    let mut so_far = CommonTree { tree: tree_of(repo, first)?, unknown: BTreeSet::new() };
    let mut merged = vec![first];
    for next in oldest_first {
        let below = merge_bases(repo, next, &merged)?;
        let base = match combine(repo, &below, drivers, depth + 1)? {
            Ok(base) => base,
            Err(caution) => return Ok(Err(caution)),
        };
        let next_tree = tree_of(repo, next)?;
        let three = [base.tree, so_far.tree, next_tree];
        let found = trees::merge(repo, three, Purpose::Base, drivers)?;
        so_far.unknown.extend(base.unknown);
        for conflict in &found.conflicts {
            // What git puts where names clash is not a matter of one path.
            if !matches!(
                conflict.kind,
                ConflictKind::BothModified
                    | ConflictKind::BothAdded
                    | ConflictKind::ModifiedDeleted
                    | ConflictKind::Mode
                    | ConflictKind::Submodule
                    | ConflictKind::SymbolicLink
            ) {
                return crossed();
            }
            so_far.unknown.insert(BString::from(conflict.path.as_bytes()));
        }
        for caution in found.cautions {
            match caution {
                // For a base git runs another program than for a result, if any.
                Caution::LinesUnclear { path } | Caution::ExternalDriver { path, .. } => {
                    so_far.unknown.insert(BString::from(path.as_bytes()));
                }
                other => return Ok(Err(other)),
            }
        }
        so_far.tree = trees::write(repo, so_far.tree, &found.edits)?;
        merged.push(next);
    }
    Ok(Ok(so_far))
}

/// What of a merge depends on paths of the common tree that are not known.
pub(super) fn unknown_that_matter(
    repo: &gix::Repository,
    common: &CommonTree,
    ours: gix::ObjectId,
    theirs: gix::ObjectId,
) -> Result<Vec<Caution>, Error> {
    let doing = || "a merged tree cannot be read".to_owned();
    let mut found = Vec::new();
    for path in &common.unknown {
        let [mine, other] = [ours, theirs].map(|tree| {
            repo.find_tree(tree)
                .and_then(|tree| tree.lookup_entry_by_path(on_disk(path)))
                .map(|entry| entry.map(|entry| (entry.mode(), entry.object_id())))
        });
        let (mine, other) = (mine.doing(doing)?, other.doing(doing)?);
        // What both sides agree on is kept, whatever it came from.
        if mine.is_none() || mine != other {
            found.push(Caution::CrissCross { path: Some(PathBytes::new(path)) });
        }
    }
    Ok(found)
}

pub(super) fn tree_of(
    repo: &gix::Repository,
    commit: gix::ObjectId,
) -> Result<gix::ObjectId, Error> {
    repo.find_commit(commit)
        .and_then(|commit| commit.tree_id())
        .map(gix::Id::detach)
        .history(commit)
}
