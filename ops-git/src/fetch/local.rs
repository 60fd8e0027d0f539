//! Fetching from a repository on the same machine, without a git program.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use gix::objs::tree::EntryKind;
use gix::refs::FullName;

use super::{Fetched, Job, pack, prune, tracking};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::BranchName;
use crate::refs::{self, Move};
use crate::repository::open_options;

pub(super) fn fetch(repo: &gix::Repository, path: &Path, mut job: Job) -> Result<Fetched, Error> {
    let source = gix::open_opts(path, open_options()).map_err(|source| {
        Error::new(
            ErrorKind::Remote,
            format!("remote `{}`: no repository at `{}`", job.remote, path.display()),
        )
        .class_of(ops_core::Class::Permanent)
        .remedy("check `remote.origin.url` and that the repository is there")
        .caused_by(source)
    })?;
    if source.object_hash() != repo.object_hash() {
        return Err(Error::new(
            ErrorKind::Remote,
            format!(
                "remote `{}` uses {} ids, this repository {}",
                job.remote,
                source.object_hash(),
                repo.object_hash()
            ),
        )
        .class_of(ops_core::Class::Permanent));
    }
    let branches = heads(&source)?;
    let tags = tags(&source)?;
    let head =
        source.head().ok().and_then(|head| head.referent_name().and_then(BranchName::from_full));
    prune(repo, &job.remote, &branches)?;

    let wanted: Vec<_> = branches.values().copied().chain(tags.values().copied()).collect();
    let mut counting = job.progress.add_child("counting objects");
    counting.init(None, gix::progress::count("objects"));
    let missing = missing(repo, &source, &wanted, &mut counting, &job)?;
    let objects = missing.len() as u64;
    let bytes = if missing.is_empty() {
        0
    } else {
        pack::copy(repo, &source, &missing, &mut job.progress, &job.interrupt)?
    };
    follow(repo, &job.remote, &branches, &tags)?;
    Ok(Fetched { branches, head, objects, bytes })
}

fn heads(source: &gix::Repository) -> Result<BTreeMap<BranchName, gix::ObjectId>, Error> {
    let doing = || format!("the branches of `{}` cannot be read", source.git_dir().display());
    let mut found = BTreeMap::new();
    for reference in source.references().doing(doing)?.local_branches().doing(doing)? {
        let mut reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let Some(name) = BranchName::from_full(reference.name()) else { continue };
        found.insert(name, reference.peel_to_id().doing(doing)?.detach());
    }
    Ok(found)
}

fn tags(source: &gix::Repository) -> Result<BTreeMap<FullName, gix::ObjectId>, Error> {
    let doing = || format!("the tags of `{}` cannot be read", source.git_dir().display());
    let mut found = BTreeMap::new();
    for reference in source.references().doing(doing)?.tags().doing(doing)? {
        let reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        if let Some(id) = reference.try_id() {
            found.insert(reference.name().to_owned(), id.detach());
        }
    }
    Ok(found)
}

/// Every object that the wanted tips reach and that is not here, tips of our refs being here with
/// all that they reach.
fn missing(
    repo: &gix::Repository,
    source: &gix::Repository,
    wanted: &[gix::ObjectId],
    counting: &mut gix::progress::tree::Item,
    job: &Job,
) -> Result<Vec<gix::ObjectId>, Error> {
    let doing = || format!("the history of `{}` cannot be read", source.git_dir().display());
    let mut found = Vec::new();
    let mut seen = HashSet::new();

    let mut commits = Vec::new();
    for id in wanted {
        let mut id = *id;
        // A tag may point to a tag.
        loop {
            let header = source.find_header(id).doing(doing)?;
            match header.kind() {
                gix::objs::Kind::Tag => {
                    if !repo.has_object(id) && seen.insert(id) {
                        found.push(id);
                    }
                    id = source.find_tag(id).doing(doing)?.target_id().doing(doing)?.detach();
                }
                gix::objs::Kind::Commit => {
                    commits.push(id);
                    break;
                }
                gix::objs::Kind::Tree => {
                    tree(source, id, &mut seen, &mut found, counting, job)?;
                    break;
                }
                gix::objs::Kind::Blob => {
                    if seen.insert(id) {
                        found.push(id);
                    }
                    break;
                }
            }
        }
    }

    let mut here = Vec::new();
    for reference in repo.references().doing(doing)?.all().doing(doing)? {
        let Ok(mut reference) = reference else { continue };
        let Ok(id) = reference.peel_to_id() else { continue };
        let id = id.detach();
        let is_commit = source
            .try_find_header(id)
            .ok()
            .flatten()
            .is_some_and(|header| header.kind() == gix::objs::Kind::Commit);
        if is_commit && repo.has_object(id) {
            here.push(id);
        }
    }
    here.sort_unstable();
    here.dedup();
    if commits.iter().all(|id| here.binary_search(id).is_ok()) {
        return Ok(found);
    }
    for id in &here {
        let at = repo.find_commit(*id).doing(doing)?.tree_id().doing(doing)?.detach();
        // What a tip of ours reaches needs no copying; its list is not part of the answer.
        tree(source, at, &mut seen, &mut Vec::new(), counting, job)?;
    }
    let walk = source.rev_walk(commits).with_hidden(here).all().doing(doing)?;
    for info in walk {
        job.go_on()?;
        let id = info.doing(doing)?.id;
        if !seen.insert(id) {
            continue;
        }
        found.push(id);
        counting.inc();
        let at = source.find_commit(id).doing(doing)?.tree_id().doing(doing)?.detach();
        tree(source, at, &mut seen, &mut found, counting, job)?;
    }
    Ok(found)
}

/// A tree and all below it, with a list of what is left to do in place of recursion.
fn tree(
    source: &gix::Repository,
    root: gix::ObjectId,
    seen: &mut HashSet<gix::ObjectId>,
    found: &mut Vec<gix::ObjectId>,
    counting: &mut gix::progress::tree::Item,
    job: &Job,
) -> Result<(), Error> {
    let mut left = vec![root];
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        job.go_on()?;
        found.push(id);
        let doing = || format!("tree {id} cannot be read");
        let tree = source.find_tree(id).doing(doing)?;
        for entry in tree.iter() {
            let entry = entry.doing(doing)?;
            let child = entry.oid().to_owned();
            match entry.mode().kind() {
                EntryKind::Tree => left.push(child),
                // A submodule's commit lies in another repository.
                EntryKind::Commit => {}
                EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Link => {
                    if seen.insert(child) {
                        found.push(child);
                        counting.inc();
                    }
                }
            }
        }
    }
    Ok(())
}

impl Job {
    fn go_on(&self) -> Result<(), Error> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the fetch was asked to end"));
        }
        Ok(())
    }
}

/// Lets the remote-tracking refs follow, wherever they were, and adds new tags. A tag that is here
/// already keeps its value, as with git.
fn follow(
    repo: &gix::Repository,
    remote: &str,
    branches: &BTreeMap<BranchName, gix::ObjectId>,
    tags: &BTreeMap<FullName, gix::ObjectId>,
) -> Result<(), Error> {
    let mut moves = Vec::new();
    for (branch, tip) in branches {
        let name = tracking(remote, branch);
        let from = refs::tip(repo, &name)?;
        if from != Some(*tip) {
            moves.push(Move { name, from, to: Some(*tip), message: "fetch".into() });
        }
    }
    for (name, id) in tags {
        let known = repo
            .try_find_reference(name)
            .doing(|| format!("`{}` cannot be read", name.as_bstr()))?;
        if known.is_none() {
            let message = String::new();
            moves.push(Move { name: name.clone(), from: None, to: Some(*id), message });
        }
    }
    refs::apply(repo, &moves)
}
