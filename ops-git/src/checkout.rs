//! Checking a version out into the work tree, in place.

use std::path::Path;

use ops_core::{CommitId, Context, Plan, Refusal, Report};

use crate::blocker::Blocker;
use crate::checked_out::elsewhere;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, commit_id};
use crate::inspect::of_the_repository;
use crate::merge::MergeCommit;
use crate::path_bytes::PathBytes;
use crate::refs;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::versions::{resolve, version_of};
use crate::worktree::{self, Foreseen, HeadPosition, Inner, Memo, SubmodulePolicy, Switch};

/// How to check out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckoutOptions {
    /// Leaves `HEAD` on no branch even if the version is a branch's name. Default: no.
    pub detach: bool,
    /// Lets ignored files that are in the way be replaced, as git does. Their bytes are saved below
    /// `.git/ops-git/lost`. Default: no, they are in the way like any other file.
    pub overwrite_ignored: bool,
    /// What becomes of the work trees of submodules. Default: they are left alone.
    pub submodules: SubmodulePolicy,
}

impl CheckoutOptions {
    /// Leaves `HEAD` on no branch.
    pub fn detach(mut self) -> Self {
        self.detach = true;
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
}

impl GitRepository {
    /// Plans to check a version out in place: a branch, and `HEAD` is on it afterwards; anything
    /// else that names a commit, and `HEAD` is detached, as git does. Reads only.
    ///
    /// Work tree and index become the version's, under git's rules for two trees: changes in paths
    /// that do not differ between the two commits are kept, everything that would be lost is a
    /// refusal. Submodules' own work trees are left alone unless the options say otherwise. If nothing
    /// is to be done the plan is empty.
    ///
    /// Facts of the plan: `sha_before`, `sha_after`, `head_before`, `head_after`, `files_new`,
    /// `files_changed`, `files_removed`, and `submodules` if some move along.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once; those of
    /// [`resolve`](Self::resolve); [`ErrorKind::InvalidInput`] if there is no work tree.
    pub async fn plan_checkout(
        &self,
        version: &str,
        options: CheckoutOptions,
    ) -> Result<Plan, Error> {
        let (this, version) = (self.clone(), version.to_owned());
        self.blocking(move |repo| plan(&this, repo, &version, &options)).await
    }

    /// Everything that stands in the way of checking a version out, typed. Reads only.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve), and if the repository cannot be read.
    pub async fn inspect_checkout(
        &self,
        version: &str,
        options: CheckoutOptions,
    ) -> Result<Vec<Blocker>, Error> {
        let version = version.to_owned();
        self.blocking(move |repo| {
            let (switch, mut blockers) = aim(repo, &version, &options)?;
            blockers.extend(foresee(repo, &switch, options.submodules, &Memo::default())?.1);
            Ok(blockers)
        })
        .await
    }

    /// Checks a version out in place: [`plan_checkout`](Self::plan_checkout), approved and run.
    ///
    /// If it does not end in its new state, `HEAD`, the index and every file are what they were,
    /// byte by byte. Bytes of neither side are saved below `.git/ops-git/lost/<operation>`.
    ///
    /// # Errors
    /// Those of [`plan_checkout`](Self::plan_checkout) and [`execute`](Self::execute).
    pub async fn safe_checkout(&self, cx: &Context, version: &str) -> Result<Report, Error> {
        self.execute(self.plan_checkout(version, CheckoutOptions::default()).await?, cx).await
    }
}

fn plan(
    this: &GitRepository,
    repo: &gix::Repository,
    version: &str,
    options: &CheckoutOptions,
) -> Result<Plan, Error> {
    let (switch, mut blockers) = aim(repo, version, options)?;
    let (foreseen, more) = foresee(repo, &switch, options.submodules, this.memo())?;
    blockers.extend(more);
    if !blockers.is_empty() {
        let reasons = blockers.into_iter().map(Refusal::from).collect();
        return Err(Error::refused(format!("`{version}` cannot be checked out"), reasons));
    }
    let new = crate::id::object_id(&switch.new)?;
    let plan = Plan::new("checkout")
        .version(version_of(repo, new)?)
        .fact("sha_after", &switch.new)
        .fact("head_before", &switch.head_from)
        .fact("head_after", &switch.head_to);
    let mut plan = foreseen.facts(plan);
    if let Some(old) = &switch.old {
        plan = plan.fact("sha_before", old);
    }
    let same = switch.head_from == switch.head_to && switch.old.as_ref() == Some(&switch.new);
    // Without an index nothing was ever checked out.
    if same && repo.index_path().exists() {
        return Ok(plan.fact("result", "already there"));
    }
    switching(this, repo, plan, switch, None, foreseen.inner)
}

/// What a switch of the repository's own work tree would do.
pub(crate) struct All {
    outer: Foreseen,
    inner: Vec<Inner>,
}

impl All {
    /// The figures of it.
    pub fn facts(&self, plan: Plan) -> Plan {
        let all = || std::iter::once(&self.outer).chain(self.inner.iter().map(|one| &one.foreseen));
        let plan = plan
            .fact("files_new", all().map(|one| one.files_new).sum::<usize>())
            .fact("files_changed", all().map(|one| one.files_changed).sum::<usize>())
            .fact("files_removed", all().map(|one| one.files_removed).sum::<usize>());
        if self.inner.is_empty() { plan } else { plan.fact("submodules", self.inner.len()) }
    }

    pub fn into_inner(self) -> Vec<Inner> {
        self.inner
    }
}

/// Looks at a switch, and at those of its submodules.
pub(crate) fn foresee(
    repo: &gix::Repository,
    switch: &Switch,
    policy: SubmodulePolicy,
    memo: &Memo,
) -> Result<(All, Vec<Blocker>), Error> {
    let mut outer = worktree::foresee(repo, switch, memo)?;
    let mut blockers = std::mem::take(&mut outer.blockers);
    let inner = match policy {
        SubmodulePolicy::LeaveAlone => Vec::new(),
        SubmodulePolicy::Update => {
            let (inner, more) = worktree::inner(repo, switch)?;
            blockers.extend(more);
            inner
        }
    };
    Ok((All { outer, inner }, blockers))
}

/// Adds to a plan the steps of a switch of the repository's own work tree and of its submodules;
/// `merge` makes the commit that it goes to.
pub(crate) fn switching(
    this: &GitRepository,
    repo: &gix::Repository,
    mut plan: Plan,
    switch: Switch,
    merge: Option<MergeCommit>,
    inner: Vec<Inner>,
) -> Result<Plan, Error> {
    let outer = Steps::of(repo.git_dir(), switch, merge.clone());
    let inner: Vec<_> =
        inner.into_iter().map(|one| Steps::of(&one.git_dir, one.switch, None)).collect();
    for steps in std::iter::once(&outer).chain(&inner) {
        plan = plan.change(this, &steps.inspect)?;
    }
    if let Some(merge) = merge {
        plan = plan.change(this, &GitStep::WriteMerge { merge })?;
    }
    for Steps { switch, verify, release, .. } in std::iter::once(&outer).chain(&inner) {
        plan = plan.change(this, switch)?.change(this, verify)?.finisher(this, release)?;
    }
    Ok(plan)
}

/// The steps of one switch.
pub(crate) struct Steps {
    pub inspect: GitStep,
    pub switch: GitStep,
    pub verify: GitStep,
    pub release: GitStep,
}

impl Steps {
    /// Of the work tree of this git directory.
    pub fn of(git_dir: &Path, switch: Switch, merge: Option<MergeCommit>) -> Self {
        let at = PathBytes::from(git_dir);
        let Switch { old, new, head_from, head_to, overwrite_ignored, whole_index } = switch;
        Self {
            inspect: GitStep::InspectWorktree {
                at: at.clone(),
                old: old.clone(),
                new: new.clone(),
                head_from: head_from.clone(),
                head_to: head_to.clone(),
                overwrite_ignored,
                whole_index,
                merge: merge.map(Box::new),
            },
            verify: GitStep::VerifyWorktree {
                at: at.clone(),
                old: old.clone(),
                new: new.clone(),
                head_from: head_from.clone(),
                head_to: head_to.clone(),
            },
            release: GitStep::ReleaseWorktree {
                at: at.clone(),
                old: old.clone(),
                new: new.clone(),
                head_from: head_from.clone(),
                head_to: head_to.clone(),
            },
            switch: GitStep::SwitchWorktree {
                at,
                old,
                new,
                head_from,
                head_to,
                overwrite_ignored,
                whole_index,
            },
        }
    }
}

/// From where to where, and what of the repository itself is against it.
fn aim(
    repo: &gix::Repository,
    version: &str,
    options: &CheckoutOptions,
) -> Result<(Switch, Vec<Blocker>), Error> {
    if repo.workdir().is_none() {
        return Err(Error::new(ErrorKind::InvalidInput, "the repository has no work tree")
            .remedy("export from a bare repository instead"));
    }
    let (head_from, old) = worktree::head_now(repo)?;
    let (new, branch) = target(repo, version)?;
    let branch = branch.filter(|_| !options.detach);
    let mut blockers = of_the_repository(repo)?;
    // History is not needed here.
    blockers.retain(|blocker| !matches!(blocker, Blocker::Shallow));
    let head_to = match branch {
        Some(branch) => {
            blockers.extend(elsewhere(repo, &branch));
            HeadPosition::Branch { branch }
        }
        None => HeadPosition::Commit { commit: new.clone() },
    };
    let overwrite_ignored = options.overwrite_ignored;
    let switch = Switch { old, new, head_from, head_to, overwrite_ignored, whole_index: false };
    Ok((switch, blockers))
}

/// The commit that a version means, and the branch that it is the name of. A branch goes before a
/// tag of the same name, as it does for git.
pub(crate) fn target(
    repo: &gix::Repository,
    version: &str,
) -> Result<(CommitId, Option<BranchName>), Error> {
    if version != "HEAD"
        && let Ok(branch) = version.parse::<BranchName>()
        && let Some(tip) = refs::tip(repo, &branch.full())?
    {
        let commit = repo
            .find_commit(tip)
            .doing(|| format!("the tip {tip} of branch `{branch}` cannot be read"))?;
        return Ok((commit_id(commit.id), Some(branch)));
    }
    Ok((commit_id(resolve(repo, version)?), None))
}
