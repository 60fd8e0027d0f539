//! The commit of a merge: a value that makes the same commit wherever and whenever it is run.

use gix::bstr::BString;
use ops_core::{CommitId, OperationId};
use serde::{Deserialize, Serialize};

use super::bases::tree_of;
use super::commits::{self, MergeResult};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{commit_id, object_id};
use crate::identity::Identity;
use crate::objects::{self, Object};

/// A merge that is ready to be committed. Everything that its id depends on is in it, the time as
/// well, so that a second run makes the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MergeCommit {
    /// The first parent.
    pub ours: CommitId,
    /// The second parent.
    pub theirs: CommitId,
    /// The merged tree, in hexadecimal digits.
    pub tree: String,
    /// Who merges.
    pub committer: Identity,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// What the commit says.
    pub message: String,
    /// The merge programs that may run, by the names that the repository's configuration gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<String>,
    /// The commit that these make.
    pub commit: CommitId,
}

impl MergeCommit {
    pub(super) fn new(
        repo: &gix::Repository,
        (ours, theirs): (CommitId, CommitId),
        tree: String,
        committer: Identity,
        seconds: i64,
        message: String,
    ) -> Result<Self, Error> {
        let (commit, drivers) = (ours.clone(), Vec::new());
        let mut this = Self { ours, theirs, tree, committer, seconds, message, drivers, commit };
        this.commit = commit_id(this.object(repo)?.id);
        Ok(this)
    }

    fn tree_id(&self) -> Result<gix::ObjectId, Error> {
        gix::ObjectId::from_hex(self.tree.as_bytes()).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, format!("`{}` is no tree id", self.tree))
                .caused_by(source)
        })
    }

    fn object(&self, repo: &gix::Repository) -> Result<Object, Error> {
        let signature = self.committer.at(self.seconds);
        let commit = gix::objs::Commit {
            tree: self.tree_id()?,
            parents: [object_id(&self.ours)?, object_id(&self.theirs)?].into_iter().collect(),
            author: signature.clone(),
            committer: signature,
            encoding: None,
            message: BString::from(self.message.as_str()),
            extra_headers: Vec::new(),
        };
        Object::of(repo, &commit)
    }
}

/// Merges again and writes what the merge made: files, then trees, then the commit.
pub(crate) fn write(
    repo: &gix::Repository,
    merge: &MergeCommit,
    operation: OperationId,
) -> Result<(), Error> {
    objects::write(repo, &made(repo, merge)?, operation)
}

/// The repository as it will be when the merge is written, in memory: nothing is written.
pub(crate) fn in_memory(
    repo: &gix::Repository,
    merge: &MergeCommit,
) -> Result<gix::Repository, Error> {
    let foreseen = repo.clone().with_object_memory();
    for object in made(repo, merge)? {
        gix::objs::Write::write_buf(&foreseen.objects, object.kind, &object.data)
            .doing(|| format!("the merge of {} cannot be kept in memory", merge.theirs))?;
    }
    Ok(foreseen)
}

/// Merges again: every object that the merge makes, each after those that it names.
fn made(repo: &gix::Repository, merge: &MergeCommit) -> Result<Vec<Object>, Error> {
    let (ours, theirs) = (object_id(&merge.ours)?, object_id(&merge.theirs)?);
    let merged = commits::merge(repo, ours, theirs, &merge.drivers)?;
    let same = match &merged.preview.result {
        MergeResult::Clean { tree } => *tree == merge.tree,
        // A merge commit was asked for where none was needed.
        MergeResult::FastForward => tree_of(repo, theirs)? == merge.tree_id()?,
        _ => false,
    };
    if !same {
        return Err(Error::new(
            ErrorKind::Moved,
            format!("{} and {} no longer merge to tree {}", merge.ours, merge.theirs, merge.tree),
        )
        .refusals(merged.preview.refusals())
        .remedy("the configuration or the attributes changed since: plan afresh"));
    }
    let commit = merge.object(repo)?;
    if commit_id(commit.id) != merge.commit {
        return Err(Error::new(
            ErrorKind::Moved,
            format!("the merge makes commit {}, the plan says {}", commit.id, merge.commit),
        )
        .remedy("plan afresh"));
    }
    let mut all = needed(&merged.objects, merge.tree_id()?)?;
    all.push(commit);
    Ok(all)
}

/// The objects of a tree that are in memory only, each after those that it names.
fn needed(memory: &commits::Objects, tree: gix::ObjectId) -> Result<Vec<Object>, Error> {
    let mut order = Vec::new();
    let mut left = vec![tree];
    while let Some(id) = left.pop() {
        let Some((kind, data)) = memory.get(&id) else { continue };
        order.push(Object { id, kind: *kind, data: data.clone() });
        if *kind == gix::objs::Kind::Tree {
            for entry in gix::objs::TreeRefIter::from_bytes(data, id.kind()) {
                let entry = entry.map_err(|source| {
                    Error::new(ErrorKind::Git, format!("merged tree {id} cannot be read"))
                        .caused_by(source)
                })?;
                left.push(entry.oid.to_owned());
            }
        }
    }
    order.reverse();
    Ok(order)
}
