//! A merge as a plan.

use ops_core::{Context, Plan, Refusal, Report};

use super::commit::MergeCommit;
use super::commits::{self, MergePreview, MergeResult};
use super::place::{Landing, in_the_way, place};
use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, commit_id, object_id};
use crate::identity::{Identity, cleaned, seconds};
use crate::inspect::of_the_repository;
use crate::refs;
use crate::repository::GitRepository;
use crate::versions::{named, version_of};
use crate::worktree::SubmodulePolicy;

/// Whether a branch may move without a merge commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastForward {
    /// Where it suffices.
    #[default]
    Allowed,
    /// Or not at all.
    Only,
    /// A merge is always a commit.
    Never,
}

/// How to merge.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MergeOptions {
    /// The branch that is merged into. Default: the one that `HEAD` is on.
    pub branch: Option<BranchName>,
    /// What the commit says. Default: what git says, such as ``Merge branch 'topic'``.
    pub message: Option<String>,
    /// Who merges. Default: the committer or user of the repository's configuration.
    pub committer: Option<Identity>,
    /// Whether the branch may move without a merge commit. Default: where it suffices.
    pub fast_forward: FastForward,
    /// The merge programs that may run, by the names that attributes call them by. They come from
    /// the repository's own configuration and run when the plan is made and again when it is run,
    /// so they must always make the same of the same files. Default: none, and a file that asks for
    /// one is refused.
    pub drivers: Vec<String>,
    /// Lets ignored files of the work tree that are in the way be replaced, as git does. Their
    /// bytes are saved below `.git/ops-git/lost`. Default: no, they are in the way.
    pub overwrite_ignored: bool,
    /// What becomes of the work trees of submodules. Default: they are left alone.
    pub submodules: SubmodulePolicy,
}

impl MergeOptions {
    /// Merges into this branch.
    pub fn branch(mut self, branch: BranchName) -> Self {
        self.branch = Some(branch);
        self
    }

    /// Says this in the commit.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Commits as this.
    pub fn committer(mut self, committer: Identity) -> Self {
        self.committer = Some(committer);
        self
    }

    /// Lets this merge program run.
    pub fn allow_driver(mut self, name: impl Into<String>) -> Self {
        self.drivers.push(name.into());
        self
    }

    /// Lets ignored files that are in the way be replaced.
    pub fn overwrite_ignored(mut self) -> Self {
        self.overwrite_ignored = true;
        self
    }

    /// Says what becomes of the work trees of submodules.
    pub fn submodules(mut self, policy: SubmodulePolicy) -> Self {
        self.submodules = policy;
        self
    }

    /// Says whether the branch may move without a merge commit.
    pub fn fast_forward(mut self, fast_forward: FastForward) -> Self {
        self.fast_forward = fast_forward;
        self
    }
}

impl GitRepository {
    /// Plans to merge a commit into a branch. The merge is tried in memory: nothing is written and
    /// nothing moves. If it is part of the branch already, the plan is empty.
    ///
    /// If the repository's work tree is on the branch, it moves along, under the rules of
    /// [`plan_checkout`](Self::plan_checkout); for a merge commit nothing may be staged. A branch
    /// that another work tree is on is refused with its path.
    ///
    /// Facts of the plan: `branch`, `merged`, `sha_before`, `sha_after`, `merge` (`fast_forward` or
    /// `commit`); with a work tree `work_tree`, `files_new`, `files_changed`, `files_removed`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with every conflict at once ([`preview_merge`](Self::preview_merge)
    /// has them as values), [`ErrorKind::Refused`] with everything in the way,
    /// [`ErrorKind::NoIdentity`] if nobody is named who commits, and those of
    /// [`resolve`](Self::resolve).
    pub async fn plan_merge(
        &self,
        cx: &Context,
        revision: &str,
        options: MergeOptions,
    ) -> Result<Plan, Error> {
        let (this, revision) = (self.clone(), revision.to_owned());
        let now = seconds(cx.clock().now());
        let work = move |repo: &gix::Repository| plan(&this, repo, &revision, options, now);
        self.blocking_until(cx.cancellation(), work).await
    }

    /// Merges a commit into the branch that `HEAD` is on: [`plan_merge`](Self::plan_merge),
    /// approved and run.
    ///
    /// # Errors
    /// Those of [`plan_merge`](Self::plan_merge) and [`execute`](Self::execute).
    pub async fn safe_merge(&self, cx: &Context, revision: &str) -> Result<Report, Error> {
        let plan = self.plan_merge(cx, revision, MergeOptions::default()).await?;
        self.execute(plan, cx).await
    }
}

fn plan(
    this: &GitRepository,
    repo: &gix::Repository,
    revision: &str,
    options: MergeOptions,
    now: i64,
) -> Result<Plan, Error> {
    let branch = target(repo, options.branch.clone())?;
    let theirs = named(repo, revision)?;
    let ours = refs::tip(repo, &branch.full())?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("branch `{branch}` has no commit yet"))
            .remedy("pull first, or name another branch")
    })?;
    let plan = Plan::new("merge")
        .fact("branch", &branch)
        .fact("merged", revision)
        .fact("sha_before", ours);
    let message = theirs.merge_message(&branch);
    let merge = Merging { branch, ours, theirs: theirs.id, revision, message, options, now };
    merging(this, repo, plan, merge)
}

/// What is merged into what, and how.
pub(crate) struct Merging<'a> {
    pub branch: BranchName,
    pub ours: gix::ObjectId,
    pub theirs: gix::ObjectId,
    /// What a person calls it.
    pub revision: &'a str,
    /// What the commit says unless the options say otherwise.
    pub message: String,
    pub options: MergeOptions,
    /// Seconds since 1970.
    pub now: i64,
}

/// Adds to a plan what merges one commit into a branch.
pub(crate) fn merging(
    this: &GitRepository,
    repo: &gix::Repository,
    plan: Plan,
    merge: Merging<'_>,
) -> Result<Plan, Error> {
    let Merging { branch, ours, theirs, revision, message, options, now } = merge;
    let preview = commits::merge(repo, ours, theirs, &options.drivers)?.preview;
    let MergePreview { ours, theirs: their_commit, result, .. } = &preview;
    let fast_forward = match (result, options.fast_forward) {
        (MergeResult::UpToDate, _) => {
            return Ok(plan
                .version(version_of(repo, object_id(ours)?)?)
                .fact("sha_after", ours)
                .fact("result", "already up to date"));
        }
        (MergeResult::FastForward, FastForward::Allowed | FastForward::Only) => true,
        (MergeResult::Clean { .. }, FastForward::Only) => {
            let reason = format!("{ours} and {their_commit} both have commits of their own");
            return Err(Error::refused(
                "this is no fast-forward",
                vec![Refusal::new(
                    reason,
                    "allow a merge commit, or rebase the one onto the other",
                )],
            ));
        }
        _ => false,
    };
    let (old, overwrite_ignored) = (Some(ours.clone()), options.overwrite_ignored);
    let submodules = options.submodules;
    if fast_forward {
        let new = their_commit.clone();
        let landing = Landing { branch, old, new, merge: None, overwrite_ignored, submodules };
        return moving(this, repo, plan.fact("merge", "fast_forward"), landing);
    }
    let tree = match result {
        MergeResult::Clean { tree } => tree.clone(),
        MergeResult::FastForward => {
            super::bases::tree_of(repo, object_id(their_commit)?)?.to_string()
        }
        _ => {
            let kind = match result {
                MergeResult::Unrelated => ErrorKind::Refused,
                _ => ErrorKind::Conflict,
            };
            let what = format!("`{revision}` does not merge into branch `{branch}` by itself");
            return Err(Error::new(kind, what).refusals(preview.refusals()));
        }
    };
    let committer = options.committer.map_or_else(|| Identity::configured(repo), Ok)?;
    let message = cleaned(&options.message.unwrap_or(message))?;
    let parents = (ours.clone(), their_commit.clone());
    let mut merge = MergeCommit::new(repo, parents, tree, committer, now, message)?;
    merge.drivers = options.drivers;
    let new = merge.commit.clone();
    let landing = Landing { branch, old, new, merge: Some(merge), overwrite_ignored, submodules };
    moving(this, repo, plan.fact("merge", "commit"), landing)
}

fn moving(
    this: &GitRepository,
    repo: &gix::Repository,
    plan: Plan,
    landing: Landing,
) -> Result<Plan, Error> {
    let new = &landing.new;
    let is_here = repo.has_object(object_id(new)?);
    let version = if is_here { version_of(repo, object_id(new)?)? } else { new.version() };
    let plan = plan.version(version).fact("sha_after", new);
    place(this, repo, plan, landing)
}

/// The branch that is meant, if nothing stands in the way of moving it.
pub(crate) fn target(
    repo: &gix::Repository,
    asked: Option<BranchName>,
) -> Result<BranchName, Error> {
    let mut reasons: Vec<_> = of_the_repository(repo)?.into_iter().map(Refusal::from).collect();
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let current = head.referent_name().and_then(BranchName::from_full);
    if let (None, true, Some(id)) = (&asked, head.is_detached(), head.id()) {
        reasons.push(Blocker::DetachedHead { commit: commit_id(id.detach()) }.into());
    }
    let branch = asked.or(current);
    if let Some(branch) = &branch {
        reasons.extend(in_the_way(repo, branch));
    }
    match branch {
        Some(branch) if reasons.is_empty() => Ok(branch),
        _ => Err(Error::refused("no branch can be moved here", reasons)),
    }
}
