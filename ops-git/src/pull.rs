//! Pulling: fetch, then fast-forward, or merge where that was asked for.

use std::time::Duration;

use ops_core::{Context, Plan, Refusal, Report};

use crate::blocker::Blocker;
use crate::checked_out::elsewhere;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::fetch::{Fetched, fetch};
use crate::history::apart;
use crate::id::{BranchName, commit_id};
use crate::identity::seconds;
use crate::inspect::{Upstream, of_the_repository};
use crate::merge::{Landing, MergeOptions, Merging, merging, place};
use crate::refs;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::versions::{named, version_of};

/// How to pull.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullOptions {
    /// The branch. Default: the one that `HEAD` is on; before the first pull, the remote's default.
    pub branch: Option<BranchName>,
    /// How long the fetch may take. Default: 5 minutes.
    pub deadline: Duration,
    /// What happens if both sides have commits of their own. Default: it is refused.
    pub policy: PullPolicy,
    /// How a merge is made, if the policy asks for one: its message, committer and merge programs.
    /// Its branch and whether it may fast-forward are not asked. Of a fast-forward, too, it says
    /// whether ignored files may be replaced.
    pub merge: MergeOptions,
}

/// What a pull does if both sides have commits of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullPolicy {
    /// Nothing: it is refused with both commits.
    #[default]
    FastForwardOnly,
    /// Merges what upstream has into the branch. A conflict is refused before anything moves, and
    /// an upstream that was rewritten always.
    Merge,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            branch: None,
            deadline: Duration::from_mins(5),
            policy: PullPolicy::default(),
            merge: MergeOptions::default(),
        }
    }
}

impl PullOptions {
    /// Pulls this branch.
    pub fn branch(mut self, branch: BranchName) -> Self {
        self.branch = Some(branch);
        self
    }

    /// Bounds the fetch.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Merges, like this, if both sides have commits of their own.
    pub fn merge(mut self, options: MergeOptions) -> Self {
        self.policy = PullPolicy::Merge;
        self.merge = options;
        self
    }
}

/// What is known before the fetch.
struct Aim {
    remote: String,
    /// `None` until the remote has said which branch is its default.
    branches: Option<(BranchName, BranchName)>,
    /// The branch without commits that a mirror's `HEAD` is on before the first pull.
    unborn: Option<BranchName>,
    /// Where the remote's branch was when it was fetched last.
    known: Option<gix::ObjectId>,
}

impl GitRepository {
    /// Fetches, and plans the fast-forward of a branch to what its upstream has now, or by
    /// [`PullPolicy::Merge`] a merge of that.
    ///
    /// If the repository's work tree is on the branch, it moves along, under the rules of
    /// [`plan_checkout`](Self::plan_checkout). A branch that another work tree is on is refused
    /// with its path.
    ///
    /// This is the one planning that changes something: objects, remote-tracking refs and new tags
    /// come over, durably, because the plan cannot be made without them. They stay even if
    /// the plan is never run. If nothing is new the plan is empty.
    ///
    /// Facts of the plan: `branch`, `sha_before`, `sha_after`, `commits`, `upstream`; with a work
    /// tree also `work_tree`, `files_new`, `files_changed`, `files_removed`.
    ///
    /// A fetch that hangs ends with an error at its deadline or at the context's cancellation; so
    /// does dropping the future. Its thread then ends by itself, at the latest when the
    /// connection's own timeout, which is the same deadline, has passed; until then it may still
    /// move remote-tracking refs. Temporary files below `objects/pack` may stay, which `git gc`
    /// removes.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once, [`ErrorKind::Diverged`] with both
    /// commits, [`ErrorKind::Conflict`] with every conflict of a merge, [`ErrorKind::NotFound`] if
    /// the remote has no such branch, and those of the fetch:
    /// [`ErrorKind::Remote`], [`ErrorKind::TimedOut`], [`ErrorKind::Cancelled`],
    /// [`ErrorKind::Unauthenticated`].
    pub async fn plan_pull(&self, cx: &Context, options: PullOptions) -> Result<Plan, Error> {
        let asked = options.branch.clone();
        let aim = self.blocking(move |repo| aim(repo, asked.as_ref())).await?;
        let fetched = fetch(self, &aim.remote, options.deadline, cx).await?;
        let this = self.clone();
        let now = seconds(cx.clock().now());
        self.blocking(move |repo| plan(&this, repo, aim, &fetched, options, now)).await
    }

    /// Fetches, and fast-forwards the branch that `HEAD` is on: [`plan_pull`](Self::plan_pull),
    /// approved and run.
    ///
    /// # Errors
    /// Those of [`plan_pull`](Self::plan_pull) and [`execute`](Self::execute).
    pub async fn safe_pull(&self, cx: &Context) -> Result<Report, Error> {
        self.execute(self.plan_pull(cx, PullOptions::default()).await?, cx).await
    }
}

fn aim(repo: &gix::Repository, asked: Option<&BranchName>) -> Result<Aim, Error> {
    let mut blockers = of_the_repository(repo)?;
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let current = head.referent_name().and_then(BranchName::from_full);
    let unborn = head.is_unborn();
    if let (None, true, Some(id)) = (asked, head.is_detached(), head.id()) {
        blockers.push(Blocker::DetachedHead { commit: commit_id(id.detach()) });
    }
    let branch = asked.cloned().or(current);
    let mut aim = Aim { remote: "origin".into(), branches: None, unborn: None, known: None };
    if let Some(branch) = &branch {
        blockers.extend(elsewhere(repo, branch));
        match Upstream::of(repo, branch) {
            Some(upstream) => {
                aim.known = match gix::refs::FullName::try_from(upstream.tracking.as_str()) {
                    Ok(name) => refs::tip(repo, &name)?,
                    Err(_) => None,
                };
                aim.remote = upstream.remote;
                aim.branches = Some((branch.clone(), upstream.branch));
            }
            None => blockers.push(Blocker::NoUpstream { branch: branch.clone() }),
        }
    }
    if !blockers.is_empty() {
        let reasons = blockers.into_iter().map(Refusal::from).collect();
        return Err(Error::refused("nothing can be pulled here", reasons));
    }
    if asked.is_none() && unborn && repo.is_bare() {
        aim.unborn = aim.branches.take().map(|(branch, _)| branch);
    }
    Ok(aim)
}

fn plan(
    this: &GitRepository,
    repo: &gix::Repository,
    aim: Aim,
    fetched: &Fetched,
    options: PullOptions,
    now: i64,
) -> Result<Plan, Error> {
    let remote = &aim.remote;
    let (branch, there) = if let Some(branches) = aim.branches {
        branches
    } else {
        // Before the first pull our HEAD is on a name that gix made up; the remote knows.
        let only = || match fetched.branches.len() {
            1 => fetched.branches.keys().next().cloned(),
            _ => None,
        };
        let default = fetched.head.clone().or_else(only);
        let default = default.ok_or_else(|| none_of(remote, "default branch", fetched))?;
        (default.clone(), default)
    };
    let new = *fetched
        .branches
        .get(&there)
        .ok_or_else(|| none_of(remote, &format!("branch `{there}`"), fetched))?;
    let old = refs::tip(repo, &branch.full())?;

    let (ahead, behind) = if let Some(old) = old {
        apart(repo, old, new)?
    } else {
        let doing = || format!("history of {new} cannot be read");
        let mut count = 0;
        for commit in repo.rev_walk([new]).all().doing(doing)? {
            commit.doing(doing)?;
            count += 1;
        }
        (0, count)
    };
    if let (Some(old), true, true) = (old, ahead > 0, behind > 0) {
        let rewritten = aim.known.is_some_and(|known| contains(repo, known, old));
        if options.policy == PullPolicy::Merge && !rewritten {
            let upstream = format!("{remote}/{there}");
            let plan = Plan::new("pull")
                .fact("branch", &branch)
                .fact("upstream", &upstream)
                .fact("sha_before", old)
                .fact("commits", behind)
                .fact("commits_not_upstream", ahead);
            let message = named(repo, &format!("refs/remotes/{upstream}"))?.merge_message(&branch);
            let options = options.merge;
            let (ours, theirs, revision) = (old, new, upstream.as_str());
            let merge = Merging { branch, ours, theirs, revision, message, options, now };
            return merging(this, repo, plan, merge);
        }
        return Err(diverged(repo, branch, old, new, aim.known, (ahead, behind)));
    }
    if let (Some(old), true, 0) = (old, ahead > 0, behind)
        && (repo.is_bare() || aim.known.is_some_and(|known| contains(repo, known, old)))
    {
        // Upstream had all of ours and went back since; nobody commits into a mirror.
        return Err(diverged(repo, branch, old, new, aim.known, (ahead, behind)));
    }
    let after = if ahead > 0 { old.unwrap_or(new) } else { new };
    let mut plan = Plan::new("pull")
        .version(version_of(repo, after)?)
        .fact("branch", &branch)
        .fact("upstream", format!("{remote}/{there}"))
        .fact("sha_after", after)
        .fact("commits", behind);
    if let Some(old) = old {
        plan = plan.fact("sha_before", old);
    }
    if ahead > 0 {
        plan = plan.fact("commits_not_upstream", ahead);
    }
    if old == Some(after) {
        return Ok(plan.fact("result", "already up to date"));
    }
    let (old, new) = (old.map(commit_id), commit_id(new));
    if let Some(from) = aim.unborn.filter(|from| *from != branch) {
        // Else HEAD would stay on a branch that the remote never had.
        plan = plan.change(this, &GitStep::PointHead { from, to: branch.clone() })?;
    }
    let MergeOptions { overwrite_ignored, submodules, .. } = options.merge;
    let landing = Landing { branch, old, new, merge: None, overwrite_ignored, submodules };
    place(this, repo, plan, landing)
}

fn diverged(
    repo: &gix::Repository,
    branch: BranchName,
    old: gix::ObjectId,
    new: gix::ObjectId,
    known: Option<gix::ObjectId>,
    (ahead, behind): (usize, usize),
) -> Error {
    // What upstream had when it was fetched last contained all of ours: then it is upstream that
    // left, and not we.
    let had_ours = behind == 0 || known.is_some_and(|known| contains(repo, known, old));
    let (local, upstream) = (commit_id(old), commit_id(new));
    let blocker = if had_ours {
        Blocker::Rewritten { branch, local, upstream }
    } else {
        Blocker::Diverged { branch, local, upstream, ahead, behind }
    };
    Error::new(ErrorKind::Diverged, "this is no fast-forward").refusals([blocker.into()])
}

fn contains(repo: &gix::Repository, tip: gix::ObjectId, commit: gix::ObjectId) -> bool {
    apart(repo, commit, tip).is_ok_and(|(own, _)| own == 0)
}

fn none_of(remote: &str, what: &str, fetched: &Fetched) -> Error {
    let names: Vec<_> = fetched.branches.keys().take(20).map(|name| format!("`{name}`")).collect();
    let there = if names.is_empty() { "no branch at all".into() } else { names.join(", ") };
    Error::new(ErrorKind::NotFound, format!("remote `{remote}` has no {what}"))
        .remedy(format!("it has {there}; name one of them, or push first"))
}
