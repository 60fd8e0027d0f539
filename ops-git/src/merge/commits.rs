//! Merging two commits, in memory: nothing is written and nothing moves.

use std::collections::HashMap;

use gix::bstr::ByteSlice as _;
use ops_core::{CommitId, Refusal};
use serde::{Deserialize, Serialize};

use super::bases::{common_tree, merge_bases, tree_of, unknown_that_matter};
use super::conflict::{Caution, Conflict};
use super::drivers::Drivers;
use super::trees::{self, Purpose};
use crate::error::Error;
use crate::id::commit_id;

/// What merging one commit into another comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MergeResult {
    /// It is part of ours already.
    UpToDate,
    /// Ours is part of it: the branch only moves.
    FastForward,
    /// Both sides go together, as this tree.
    Clean {
        /// The id of the merged tree, in hexadecimal digits.
        tree: String,
    },
    /// They do not, or it is not sure how.
    Refused {
        /// Everything that both sides changed and that cannot both be kept.
        conflicts: Vec<Conflict>,
        /// Everything that is not a conflict but is too close to call.
        cautions: Vec<Caution>,
    },
    /// The two have no history in common.
    Unrelated,
}

/// A merge that was tried in memory. Nothing was written and nothing moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MergePreview {
    /// The commit that is merged into.
    pub ours: CommitId,
    /// The commit that is merged.
    pub theirs: CommitId,
    /// Where the two histories parted; several if they crossed.
    pub bases: Vec<CommitId>,
    /// What it comes to.
    pub result: MergeResult,
}

impl MergePreview {
    /// Every reason why it does not go by itself; empty if it does.
    pub fn refusals(&self) -> Vec<Refusal> {
        match &self.result {
            MergeResult::Refused { conflicts, cautions } => {
                let conflicts = conflicts.iter().map(Refusal::from);
                conflicts.chain(cautions.iter().map(Refusal::from)).collect()
            }
            MergeResult::Unrelated => vec![Refusal::new(
                format!("{} and {} have no history in common", self.ours, self.theirs),
                "check that the right branch is named",
            )],
            MergeResult::UpToDate | MergeResult::FastForward | MergeResult::Clean { .. } => {
                Vec::new()
            }
        }
    }
}

/// Objects that are in memory only.
pub(super) type Objects = HashMap<gix::ObjectId, (gix::objs::Kind, Vec<u8>)>;

/// A merge and the objects that its tree needs and that the repository does not have yet.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub preview: MergePreview,
    pub objects: Objects,
}

/// Merges `theirs` into `ours`; of the merge programs that the repository configures only these run.
pub(crate) fn merge(
    repo: &gix::Repository,
    ours: gix::ObjectId,
    theirs: gix::ObjectId,
    allowed: &[String],
) -> Result<InMemory, Error> {
    let mut repo = repo.clone().with_object_memory();
    repo.object_cache_size_if_unset(16 * 1024 * 1024);
    let bases = merge_bases(&repo, ours, &[theirs])?;
    let result = if bases.contains(&theirs) {
        MergeResult::UpToDate
    } else if bases.contains(&ours) {
        MergeResult::FastForward
    } else if bases.is_empty() {
        MergeResult::Unrelated
    } else {
        diverged(&repo, &bases, (ours, theirs), allowed)?
    };
    let objects = match repo.objects.take_object_memory() {
        Some(mut storage) if matches!(result, MergeResult::Clean { .. }) => {
            storage.drain().collect()
        }
        _ => Objects::new(),
    };
    Ok(InMemory {
        preview: MergePreview {
            ours: commit_id(ours),
            theirs: commit_id(theirs),
            bases: bases.into_iter().map(commit_id).collect(),
            result,
        },
        objects,
    })
}

fn diverged(
    repo: &gix::Repository,
    bases: &[gix::ObjectId],
    (ours, theirs): (gix::ObjectId, gix::ObjectId),
    allowed: &[String],
) -> Result<MergeResult, Error> {
    let (ours, theirs) = (tree_of(repo, ours)?, tree_of(repo, theirs)?);
    let refused = |cautions| Ok(MergeResult::Refused { conflicts: Vec::new(), cautions });
    let settings = unsupported(repo);
    if !settings.is_empty() {
        return refused(settings);
    }
    let common = match common_tree(repo, bases, &mut Drivers::of(ours, &[]))? {
        Ok(common) => common,
        Err(caution) => return refused(vec![caution]),
    };
    let crossed = unknown_that_matter(repo, &common, ours, theirs)?;
    let mut drivers = Drivers::of(ours, allowed);
    let found = trees::merge(repo, [common.tree, ours, theirs], Purpose::Result, &mut drivers)?;
    let (mut conflicts, mut cautions) = (found.conflicts, found.cautions);
    cautions.extend(crossed);
    // Where the base is not known nothing is known, a conflict neither.
    conflicts.retain(|conflict| !common.unknown.contains(conflict.path.as_bytes().as_bstr()));
    if !conflicts.is_empty() || !cautions.is_empty() {
        return Ok(MergeResult::Refused { conflicts, cautions });
    }
    let tree = trees::write(repo, ours, &found.edits)?.to_string();
    Ok(MergeResult::Clean { tree })
}

/// Settings that make git merge otherwise.
fn unsupported(repo: &gix::Repository) -> Vec<Caution> {
    let config = repo.config_snapshot();
    let mut found = Vec::new();
    let mut refuse = |key: &str, is_default: &dyn Fn(&str) -> bool| {
        if let Some(value) = config.string(key) {
            let value = value.to_string();
            if !is_default(&value.to_ascii_lowercase()) {
                found.push(Caution::Configured { setting: format!("{key}={value}") });
            }
        }
    };
    let on = |value: &str| matches!(value, "" | "true" | "yes" | "on" | "1");
    let off = |value: &str| matches!(value, "false" | "no" | "off" | "0");
    refuse("merge.renormalize", &off);
    refuse("merge.renames", &on);
    refuse("diff.renames", &|value| on(value) || matches!(value, "copy" | "copies"));
    refuse("merge.directoryRenames", &|value| value == "conflict");
    refuse("merge.renameLimit", &|value| value.parse::<u64>().is_ok_and(|n| n >= 1000));
    refuse("diff.algorithm", &|_| true);
    found
}
