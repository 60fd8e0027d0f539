//! Fetching from a repository on the same machine, without a git program.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use gix::objs::tree::EntryKind;
use gix::protocol::fetch::Shallow;
use gix::refs::FullName;

use super::{Fetched, Job, Tag, Task, pack, same_hash, shallow};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::BranchName;
use crate::repository::open_options;

pub(super) fn fetch(repo: &gix::Repository, path: &Path, job: &mut Job) -> Result<Fetched, Error> {
    let source = gix::open_opts(path, open_options()).map_err(|source| {
        Error::new(
            ErrorKind::Remote,
            format!("remote `{}`: no repository at `{}`", job.remote, path.display()),
        )
        .class_of(ops_core::Class::Permanent)
        .remedy("check `remote.origin.url` and that the repository is there")
        .caused_by(source)
    })?;
    same_hash(repo, &job.remote, source.object_hash())?;
    let mut fetched = Fetched { branches: heads(&source)?, ..Fetched::default() };
    fetched.tags = tags(&source)?;
    fetched.head =
        source.head().ok().and_then(|head| head.referent_name().and_then(BranchName::from_full));
    let Task::Fetch(history) = job.task else { return Ok(fetched) };
    if !shallow::boundary(&source)?.is_empty() {
        return Err(Error::new(
            ErrorKind::HistoryUnavailable,
            format!("remote `{}`: its own history is cut off", job.remote),
        )
        .remedy(
            "complete it there with `git fetch --unshallow`, or pull from where it came from",
        ));
    }

    let old_boundary = shallow::boundary(repo)?;
    let asked = shallow::asked(repo, &job.remote, history)?;
    let counting = job.progress.add_child("counting objects");
    counting.init(None, gix::progress::count("objects"));
    let tips: Vec<_> = fetched.branches.values().copied().collect();
    let mut search = Search { repo, source: &source, counting, job, seen: HashSet::new() };
    let (mut missing, new_boundary) = if old_boundary.is_empty() && asked == Shallow::NoChange {
        (search.missing(&tips)?, BTreeSet::new())
    } else {
        search.missing_of_a_part(&tips, &asked, &old_boundary)?
    };
    search.add_tags(&fetched.tags, &mut missing)?;
    fetched.objects = missing.len() as u64;
    if !missing.is_empty() {
        fetched.bytes = pack::copy(repo, &source, &missing, &mut job.progress, &job.stop)?;
    }
    if new_boundary != old_boundary {
        shallow::write(repo, &new_boundary)?;
    }
    Ok(fetched)
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

fn tags(source: &gix::Repository) -> Result<BTreeMap<FullName, Tag>, Error> {
    let doing = || format!("the tags of `{}` cannot be read", source.git_dir().display());
    let mut found = BTreeMap::new();
    for reference in source.references().doing(doing)?.tags().doing(doing)? {
        let mut reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        if let Some(id) = reference.try_id().map(gix::Id::detach) {
            let name = reference.name().to_owned();
            let target = reference.peel_to_id().doing(doing)?.detach();
            found.insert(name, Tag { id, target });
        }
    }
    Ok(found)
}

/// Looks for what one repository has and another has not.
struct Search<'a> {
    repo: &'a gix::Repository,
    source: &'a gix::Repository,
    counting: gix::progress::tree::Item,
    job: &'a Job,
    /// What was found, and what need not be looked at again.
    seen: HashSet<gix::ObjectId>,
}

impl Search<'_> {
    fn doing(&self) -> String {
        format!("the history of `{}` cannot be read", self.source.git_dir().display())
    }

    /// Every object that the tips reach and that is not here, tips of our refs being here with all
    /// that they reach.
    fn missing(&mut self, tips: &[gix::ObjectId]) -> Result<Vec<gix::ObjectId>, Error> {
        let mut found = Vec::new();
        let mut here = Vec::new();
        for reference in
            self.repo.references().doing(|| self.doing())?.all().doing(|| self.doing())?
        {
            let Ok(mut reference) = reference else { continue };
            let Ok(id) = reference.peel_to_id() else { continue };
            let id = id.detach();
            let is_commit = self
                .source
                .try_find_header(id)
                .ok()
                .flatten()
                .is_some_and(|header| header.kind() == gix::objs::Kind::Commit);
            if is_commit && self.repo.has_object(id) {
                here.push(id);
            }
        }
        here.sort_unstable();
        here.dedup();
        if tips.iter().all(|tip| here.binary_search(tip).is_ok()) {
            return Ok(found);
        }
        for id in &here {
            // What a tip of ours reaches needs no copying; its list is not part of the answer.
            let at = self.tree_of(*id)?;
            self.tree(at, &mut Vec::new(), false)?;
        }
        let source = self.source;
        let tips = tips.iter().copied();
        let walk = source.rev_walk(tips).with_hidden(here).all().doing(|| self.doing())?;
        for info in walk {
            self.job.stop.check()?;
            let id = info.doing(|| self.doing())?.id;
            if !self.seen.insert(id) {
                continue;
            }
            found.push(id);
            self.counting.inc();
            let at = self.tree_of(id)?;
            self.tree(at, &mut found, false)?;
        }
        Ok(found)
    }

    /// The same where a part of the history is here or asked for; and where the cut is then.
    fn missing_of_a_part(
        &mut self,
        tips: &[gix::ObjectId],
        asked: &Shallow,
        boundary: &BTreeSet<gix::ObjectId>,
    ) -> Result<(Vec<gix::ObjectId>, BTreeSet<gix::ObjectId>), Error> {
        let (commits, boundary) = match asked {
            Shallow::DepthAtRemote(depth) => {
                let walked = self.walk(tips, Some(depth.get()), |_| false)?;
                (walked.through, walked.ends)
            }
            asked => {
                let repo = self.repo;
                let mut above = self.walk(tips, None, |id| {
                    // A commit that is here has everything below it here, down to the cut.
                    boundary.contains(&id) || repo.has_object(id)
                })?;
                let mut new = boundary.clone();
                if let Shallow::Deepen(more) = asked {
                    let there = |id: &&gix::ObjectId| self.source.has_object(**id);
                    let (known, gone): (Vec<_>, Vec<_>) = boundary.iter().partition(there);
                    let known: Vec<_> = known.into_iter().copied().collect();
                    let below = self.walk(&known, Some(more.saturating_add(1)), |_| false)?;
                    new = gone.into_iter().copied().collect();
                    new.extend(below.ends.difference(&above.through));
                    above.through.extend(below.through);
                }
                (above.through, new)
            }
        };
        let mut found = Vec::new();
        for id in commits {
            self.job.stop.check()?;
            if self.repo.has_object(id) || !self.seen.insert(id) {
                continue;
            }
            found.push(id);
            self.counting.inc();
            let at = self.tree_of(id)?;
            self.tree(at, &mut found, true)?;
        }
        Ok((found, boundary))
    }

    /// Goes down from some commits, level by level.
    fn walk(
        &self,
        from: &[gix::ObjectId],
        levels: Option<u32>,
        stop: impl Fn(gix::ObjectId) -> bool,
    ) -> Result<Walked, Error> {
        let mut walked = Walked::default();
        let mut level: Vec<_> = from.to_vec();
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let mut next = Vec::new();
            for id in level {
                self.job.stop.check()?;
                if stop(id) || !walked.through.insert(id) {
                    continue;
                }
                let commit = self.source.find_commit(id).doing(|| self.doing())?;
                let parents: Vec<_> = commit.parent_ids().map(gix::Id::detach).collect();
                if levels == Some(depth) {
                    if !parents.is_empty() {
                        walked.ends.insert(id);
                    }
                } else {
                    next.extend(parents);
                }
            }
            level = next;
        }
        Ok(walked)
    }

    fn tree_of(&self, commit: gix::ObjectId) -> Result<gix::ObjectId, Error> {
        let commit = self.source.find_commit(commit).doing(|| self.doing())?;
        Ok(commit.tree_id().doing(|| self.doing())?.detach())
    }

    /// A tree and all below it, with a list of what is left to do in place of recursion.
    fn tree(
        &mut self,
        root: gix::ObjectId,
        found: &mut Vec<gix::ObjectId>,
        asks_here: bool,
    ) -> Result<(), Error> {
        let mut left = vec![root];
        while let Some(id) = left.pop() {
            if !self.seen.insert(id) || (asks_here && self.repo.has_object(id)) {
                continue;
            }
            self.job.stop.check()?;
            found.push(id);
            let doing = || format!("tree {id} cannot be read");
            let tree = self.source.find_tree(id).doing(doing)?;
            for entry in tree.iter() {
                let entry = entry.doing(doing)?;
                let child = entry.oid().to_owned();
                match entry.mode().kind() {
                    EntryKind::Tree => left.push(child),
                    // A submodule's commit lies in another repository.
                    EntryKind::Commit => {}
                    EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Link => {
                        if self.seen.insert(child) && !(asks_here && self.repo.has_object(child)) {
                            found.push(child);
                            self.counting.inc();
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The objects of those tags that lie on what is here or comes over.
    fn add_tags(
        &mut self,
        tags: &BTreeMap<FullName, Tag>,
        found: &mut Vec<gix::ObjectId>,
    ) -> Result<(), Error> {
        let coming: HashSet<_> = found.iter().copied().collect();
        for tag in tags.values().filter(|_| self.job.tags) {
            if !coming.contains(&tag.target) && !self.repo.has_object(tag.target) {
                continue;
            }
            let mut id = tag.id;
            // A tag may point to a tag.
            while id != tag.target && !self.repo.has_object(id) && self.seen.insert(id) {
                found.push(id);
                let read = self.source.find_tag(id).doing(|| self.doing())?;
                id = read.target_id().doing(|| self.doing())?.detach();
            }
        }
        Ok(())
    }
}

/// Commits that were gone through, and those of them where it ended with parents left.
#[derive(Debug, Default)]
struct Walked {
    through: BTreeSet<gix::ObjectId>,
    ends: BTreeSet<gix::ObjectId>,
}
