//! A repository in memory, to test tools with.

mod merge;
mod step;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use ops_core::{
    Class, CommitId, Context, OperationId, Plan, Refusal, Resource, ResourceId, Version, World,
};

pub use step::MemoryStep;

use crate::blocker::{Blocker, Inspection};
use crate::error::{Error, ErrorKind};
use crate::export;
use crate::id::BranchName;
use crate::merge::MergeOptions;
use crate::path_bytes::PathBytes;
use crate::pull::{PullOptions, Rewritten};
use crate::tag::{TagName, TagOptions};
use crate::version_control::VersionControl;
use crate::versions::VersionInfo;

/// A repository in memory, to test tools with: linear history, one branch `main`, an upstream that
/// the test itself commits to. Pulls, refusals, exports, undo and approval are the real ones.
///
/// It is cheap to clone; clones share the content. It does not outlive its process, so a journal
/// that is left behind cannot be recovered in another one.
///
/// ```
/// use ops_core::{Context, Environment};
/// use ops_git::{MemoryRepository, VersionControl};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// let repository = MemoryRepository::new("app");
/// let commit = repository.commit("First", [("hello.txt", "hello")]);
/// let cx = Context::builder(dir.path()).environment(Environment::Development).build();
/// repository.safe_pull(&cx).await?;
/// assert_eq!(repository.resolve("main").await?, commit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemoryRepository {
    id: ResourceId,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    commits: BTreeMap<CommitId, Commit>,
    upstream: Option<CommitId>,
    local: Option<CommitId>,
    tags: BTreeMap<String, CommitId>,
    /// What each operation that moved the branch left.
    kept: BTreeMap<OperationId, Option<CommitId>>,
    /// Which operation made a tag.
    made: BTreeMap<TagName, OperationId>,
}

#[derive(Debug, Clone)]
struct Commit {
    parent: Option<CommitId>,
    subject: String,
    date: Timestamp,
    files: BTreeMap<String, Vec<u8>>,
}

fn main() -> BranchName {
    "main".parse().expect("it is a branch's name")
}

impl MemoryRepository {
    /// An empty repository of this name.
    pub fn new(name: &str) -> Self {
        Self { id: ResourceId::new("git-memory", name), state: Arc::default() }
    }

    /// Commits these files, and no others, upstream. They come here by a pull.
    ///
    /// Equal histories have equal ids.
    pub fn commit<P: Into<String>, C: Into<Vec<u8>>>(
        &self,
        subject: &str,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> CommitId {
        let mut state = self.state();
        let parent = state.upstream.clone();
        let files: BTreeMap<_, _> =
            files.into_iter().map(|(path, content)| (path.into(), content.into())).collect();
        let identity = format!("{parent:?}\n{subject}\n{files:?}");
        let id = gix::objs::compute_hash(
            gix::hash::Kind::Sha1,
            gix::objs::Kind::Blob,
            identity.as_bytes(),
        )
        .expect("these bytes are no attack on SHA-1");
        let id = crate::id::commit_id(id);
        let second = i64::try_from(state.commits.len()).unwrap_or(i64::MAX);
        let date = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        state.commits.insert(id.clone(), Commit { parent, subject: subject.into(), date, files });
        state.upstream = Some(id.clone());
        id
    }

    /// Sets the upstream back to this commit, as a forced push does.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such commit.
    pub fn force_upstream(&self, to: &CommitId) -> Result<(), Error> {
        let mut state = self.state();
        state.find(to.as_str())?;
        state.upstream = Some(to.clone());
        Ok(())
    }

    /// Tags a commit.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such commit.
    pub fn tag(&self, name: &str, commit: &CommitId) -> Result<(), Error> {
        let mut state = self.state();
        state.find(commit.as_str())?;
        state.tags.insert(name.to_owned(), commit.clone());
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pull_plan(&self, options: &PullOptions) -> Result<Plan, Error> {
        let state = self.state();
        if let Some(branch) = options.branch.as_ref().filter(|branch| **branch != main()) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("remote `origin` has no branch `{branch}`"),
            )
            .remedy("it has `main`"));
        }
        let new = state.upstream.clone().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "remote `origin` has no default branch")
                .remedy("it has no branch at all; commit first")
        })?;
        let line = state.line(&new);
        let mut follows = false;
        let commits = match &state.local {
            None => line.len(),
            Some(local) => match line.iter().position(|id| id == local) {
                Some(commits) => commits,
                None if options.rewritten == Rewritten::Follow => {
                    follows = true;
                    line.len()
                }
                None => {
                    let (branch, local, upstream) = (main(), local.clone(), new.clone());
                    let blocker = Blocker::Rewritten { branch, local, upstream };
                    return Err(Error::new(ErrorKind::Diverged, "this is no fast-forward")
                        .refusals([blocker.into()]));
                }
            },
        };
        let mut plan = Plan::new("pull")
            .version(new.version())
            .fact("branch", main())
            .fact("upstream", "origin/main")
            .fact("sha_after", &new)
            .fact("commits", commits);
        if let Some(local) = &state.local {
            plan = plan.fact("sha_before", local);
        }
        if follows {
            plan = plan.fact("rewritten", "followed");
        }
        if commits == 0 {
            return Ok(plan.fact("result", "already up to date"));
        }
        let step = MemoryStep::MoveBranch { old: state.local.clone(), new };
        Ok(plan.change(self, &step)?.finisher(self, &MemoryStep::ReleaseTip)?)
    }

    fn export_plan(&self, version: &str, folder: &Path) -> Result<Plan, Error> {
        let folder = export::absolute(folder)?;
        let state = self.state();
        let (id, commit) = state.find_local(version)?;
        let plan = Plan::new("export")
            .version(id.version())
            .fact("commit", &id)
            .fact("folder", folder.display())
            .fact("files", commit.files.len());
        if folder.symlink_metadata().is_err() {
            let step = MemoryStep::Export { commit: id, folder: PathBytes::from(&*folder) };
            return Ok(plan.change(self, &step)?);
        }
        if commit.is_at(&folder) {
            return Ok(plan.fact("result", "already exported"));
        }
        Err(export::foreign(&folder, None))
    }
}

impl State {
    /// A commit and all before it, newest first.
    fn line(&self, tip: &CommitId) -> Vec<CommitId> {
        let next = |id: &CommitId| self.commits.get(id).and_then(|commit| commit.parent.clone());
        std::iter::successors(Some(tip.clone()), next).collect()
    }

    fn find(&self, name: &str) -> Result<(CommitId, Commit), Error> {
        let id = match name {
            "main" | "HEAD" => self.local.clone(),
            "origin/main" => self.upstream.clone(),
            _ => self.tags.get(name).cloned(),
        };
        let id = match id {
            Some(id) => id,
            None => self.find_by_digits(name)?,
        };
        let commit = self.commits.get(&id).cloned();
        let commit = commit
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no commit {id}")))?;
        Ok((id, commit))
    }

    /// Why this tag cannot be made.
    fn tagged(&self, name: &TagName) -> Option<Refusal> {
        let commit = self.tags.get(name.as_str())?;
        Some(Refusal::new(
            format!("tag `{name}` exists already, at {commit}"),
            "give another name; tags that were published do not move",
        ))
    }

    fn find_by_digits(&self, name: &str) -> Result<CommitId, Error> {
        let digits = name.to_ascii_lowercase();
        let fits: Vec<_> = self
            .commits
            .keys()
            .filter(|id| digits.len() >= 4 && id.as_str().starts_with(&digits))
            .collect();
        match fits.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Error::new(
                ErrorKind::NotFound,
                format!("`{}` names no commit here", name.escape_debug()),
            )
            .remedy("give `main`, a tag, or a commit id of at least 4 digits")),
            [one, other, ..] => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("`{name}` is ambiguous: commits {one} and {other} begin with it"),
            )),
        }
    }

    /// Finds what a pull has brought here.
    fn find_local(&self, name: &str) -> Result<(CommitId, Commit), Error> {
        let found = self.find(name)?;
        if self.local.as_ref().is_some_and(|local| self.line(local).contains(&found.0)) {
            return Ok(found);
        }
        Err(Error::new(ErrorKind::NotFound, format!("`{name}` names no commit here"))
            .class_of(Class::Permanent)
            .remedy("pull first"))
    }
}

impl Commit {
    fn write(&self, root: &Path) -> Result<(), Error> {
        for (path, content) in &self.files {
            let file = root.join(path);
            let parts = Path::new(path).components();
            if path.is_empty()
                || parts.into_iter().any(|p| !matches!(p, std::path::Component::Normal(_)))
            {
                return Err(Error::new(
                    ErrorKind::Hostile,
                    format!("`{path}` leads out of the tree"),
                ));
            }
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
            }
            fs::write(&file, content).map_err(|e| Error::io("write", &file, e))?;
        }
        Ok(())
    }

    /// Whether a folder holds exactly these files.
    fn is_at(&self, root: &Path) -> bool {
        let mut left = vec![root.to_owned()];
        let mut found = 0;
        while let Some(folder) = left.pop() {
            let Ok(entries) = folder.read_dir() else { return false };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    left.push(path);
                    continue;
                }
                let name = path.strip_prefix(root).ok().and_then(Path::to_str);
                let content = name.and_then(|name| self.files.get(name));
                if content.is_none() || fs::read(&path).ok().as_ref() != content {
                    return false;
                }
                found += 1;
            }
        }
        found == self.files.len()
    }
}

impl Resource for MemoryRepository {
    type Step = MemoryStep;

    fn id(&self) -> ResourceId {
        self.id.clone()
    }
}

impl VersionControl for MemoryRepository {
    fn inspect(&self) -> BoxFuture<'_, Result<Inspection, Error>> {
        async move {
            Ok(Inspection {
                head: self.state().local.clone(),
                branch: Some(main()),
                upstream: Some("origin/main".into()),
                bare: true,
                blockers: Vec::new(),
            })
        }
        .boxed()
    }

    fn plan_pull<'a>(
        &'a self,
        _cx: &'a Context,
        options: PullOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        async move { self.pull_plan(&options) }.boxed()
    }

    fn plan_export<'a>(
        &'a self,
        version: &'a str,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        async move { self.export_plan(version, folder) }.boxed()
    }

    fn plan_merge<'a>(
        &'a self,
        _cx: &'a Context,
        revision: &'a str,
        options: MergeOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        async move { self.merge_plan(revision, &options) }.boxed()
    }

    fn plan_tag<'a>(
        &'a self,
        _cx: &'a Context,
        name: &'a str,
        version: &'a str,
        _options: TagOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        async move { self.tag_plan(name, version) }.boxed()
    }

    fn versions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<VersionInfo>, Error>> {
        async move {
            let state = self.state();
            let line = state.local.as_ref().map(|tip| state.line(tip)).unwrap_or_default();
            let describe = |id: CommitId| {
                let (_, commit) = state.find(id.as_str())?;
                let tags = state.tags.iter().filter(|(_, at)| **at == id);
                Ok(VersionInfo {
                    version: id.version(),
                    tags: tags.map(|(name, _)| name.clone()).collect(),
                    subject: commit.subject,
                    author: "Memory <memory@localhost>".into(),
                    date: commit.date,
                    shared_with: Vec::new(),
                    commit: id,
                })
            };
            line.into_iter().take(limit).map(describe).collect()
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CommitId, Error>> {
        async move { Ok(self.state().find_local(name)?.0) }.boxed()
    }

    fn previous<'a>(
        &'a self,
        version: &'a Version,
    ) -> BoxFuture<'a, Result<Option<Version>, Error>> {
        async move {
            let (_, commit) = self.state().find_local(version.as_str())?;
            Ok(commit.parent.map(|parent| parent.version()))
        }
        .boxed()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }
}
