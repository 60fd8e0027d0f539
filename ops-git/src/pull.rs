//! Pulling: fetch, then fast-forward, or merge where that was asked for.

use std::time::Duration;

use ops_core::{Context, Plan, Refusal, Report};

use crate::ahead_behind::{Apart, ahead_behind};
use crate::blocker::Blocker;
use crate::checked_out::elsewhere;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::fast_forward::{Known, no_fast_forward};
use crate::fetch::{Fetched, History, Task, boundary, fetch, tidy};
use crate::id::{BranchName, commit_id};
use crate::identity::seconds;
use crate::inspect::{Upstream, of_the_repository};
use crate::merge::{Landing, MergeOptions, Merging, merging, place};
use crate::recovery_ref;
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
    /// How much of the history is fetched. Default: all that is new.
    pub history: History,
    /// What to do when the remote's history was rewritten. Default: refuse.
    pub rewritten: Rewritten,
    /// What happens if both sides have commits of their own. Default: it is refused.
    pub policy: PullPolicy,
    /// How a merge is made, if the policy asks for one: its message, committer and merge programs.
    /// Its branch and whether it may fast-forward are not asked. Of a fast-forward, too, it says
    /// whether ignored files may be replaced.
    pub merge: MergeOptions,
}

/// What a pull does when the remote's branch was force-pushed: when it no longer contains what was
/// pulled from it before. Commits of our own are never left this way: that is
/// [`ErrorKind::Diverged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rewritten {
    /// Nothing moves; both commits are named. The default.
    #[default]
    Refuse,
    /// The branch moves to where the remote is. Where it was is kept for good as
    /// `refs/ops-git/recovery/<branch>/<operation>`, until a person deletes that ref.
    Follow,
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
            history: History::default(),
            rewritten: Rewritten::default(),
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

    /// Fetches so much of the history.
    pub fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Does this when the remote's history was rewritten.
    pub fn rewritten(mut self, rewritten: Rewritten) -> Self {
        self.rewritten = rewritten;
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
    /// The ref that follows it.
    tracking: Option<String>,
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
    /// What the plan means is read by [`Pulled::in_plan`](crate::Pulled::in_plan). Facts: `branch`,
    /// `sha_before`, `sha_after`, `commits`, `upstream`; `rewritten` and `recovery_ref` where a
    /// rewritten history is followed, `tags_moved_upstream`, and `history` if it is cut off; with a
    /// work tree also `work_tree`, `files_new`, `files_changed`, `files_removed`.
    ///
    /// Remotes are paths, `file`, `http`, `https` and `ssh` URLs. Tags come along as with git: those
    /// on what is fetched, and a tag that is here is never moved. Over http `http.extraHeader`,
    /// `proxy`, `sslCAInfo`, `sslCert`, `sslKey`, `sslVerify`, `userAgent` and `followRedirects` of
    /// the repository's configuration count, also below `http.<url>`; http/2 and low-speed limits
    /// do not. Over ssh the program of `core.sshCommand` or of the environment runs, without a
    /// shell; nobody is ever asked for anything.
    ///
    /// A fetch that hangs ends with an error at its deadline or at the context's cancellation, and
    /// then neither a thread nor a child process nor a temporary file is left; so does dropping the
    /// future, within a second. (A name that is being looked up ends by the resolver's own timeout. A
    /// disk that hangs is waited for 5 s; the thread is then left, and ends once it goes on.)
    /// What a killed process left is taken away by the next pull.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once, [`ErrorKind::Diverged`] with both
    /// commits, [`ErrorKind::HistoryUnavailable`] where history that is cut off hides the answer,
    /// [`ErrorKind::Conflict`] with every conflict of a merge, [`ErrorKind::NotFound`] if the remote
    /// has no such branch, and those of the fetch:
    /// [`ErrorKind::Remote`], [`ErrorKind::TimedOut`], [`ErrorKind::Cancelled`],
    /// [`ErrorKind::Unauthenticated`].
    pub async fn plan_pull(&self, cx: &Context, options: PullOptions) -> Result<Plan, Error> {
        let asked = options.branch.clone();
        let aim = self.blocking(move |repo| aim(repo, asked.as_ref())).await?;
        let task = Task::Fetch(options.history);
        let fetched = fetch(self, &aim.remote, task, options.deadline, cx).await?;
        let this = self.clone();
        let now = seconds(cx.clock().now());
        let work = move |repo: &gix::Repository| plan(&this, repo, aim, &fetched, options, now);
        self.blocking_until(cx.cancellation(), work).await
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
    tidy(repo)?;
    let mut blockers = of_the_repository(repo)?;
    // Only where the cut hides an answer it is in the way, and that is seen later.
    blockers.retain(|blocker| *blocker != Blocker::Shallow);
    let head = repo.head().doing(|| "HEAD cannot be read".into())?;
    let current = head.referent_name().and_then(BranchName::from_full);
    let unborn = head.is_unborn();
    if let (None, true, Some(id)) = (asked, head.is_detached(), head.id()) {
        blockers.push(Blocker::DetachedHead { commit: commit_id(id.detach()) });
    }
    let branch = asked.cloned().or(current);
    let mut aim =
        Aim { remote: "origin".into(), branches: None, unborn: None, known: None, tracking: None };
    if let Some(branch) = &branch {
        blockers.extend(elsewhere(repo, branch));
        match Upstream::of(repo, branch) {
            Some(upstream) => {
                aim.known = upstream.tip(repo)?;
                aim.tracking = Some(upstream.tracking);
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
    mut aim: Aim,
    fetched: &Fetched,
    options: PullOptions,
    now: i64,
) -> Result<Plan, Error> {
    let remote = &aim.remote.clone();
    let (branch, there) = if let Some(branches) = aim.branches.take() {
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

    let apart = if let Some(old) = old {
        ahead_behind(repo, old, new)?
    } else {
        let doing = || format!("history of {new} cannot be read");
        let mut count = 0;
        for commit in repo.rev_walk([new]).all().doing(doing)? {
            commit.doing(doing)?;
            count += 1;
        }
        Apart { behind: count, ..Apart::default() }
    };
    let Apart { ahead, behind, .. } = apart;
    let why = match old {
        Some(old) if ahead > 0 => {
            let known = Known { tip: aim.known, tracking: aim.tracking.as_deref() };
            no_fast_forward(repo, &branch, (old, new), &known, apart)?
        }
        _ => None,
    };
    let follows = match (why, old) {
        (None, _) => false,
        (Some(Blocker::Rewritten { .. }), _) if options.rewritten == Rewritten::Follow => true,
        (Some(Blocker::Diverged { .. }), Some(old)) if options.policy == PullPolicy::Merge => {
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
        (Some(blocker), _) => {
            let kind = match blocker {
                Blocker::HistoryCut { .. } => ErrorKind::HistoryUnavailable,
                _ => ErrorKind::Diverged,
            };
            return Err(Error::new(kind, "this is no fast-forward").refusals([blocker.into()]));
        }
    };
    let after = if ahead > 0 && !follows { old.unwrap_or(new) } else { new };
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
    if follows {
        let kept = format!("{}/<operation>", recovery_ref::folder(&branch));
        plan = plan.fact("rewritten", "followed").fact("recovery_ref", kept);
    }
    if !fetched.moved_tags.is_empty() {
        let named: Vec<_> = fetched.moved_tags.iter().take(20).cloned().collect();
        plan = plan.fact("tags_moved_upstream", named.join(", "));
    }
    if !boundary(repo)?.is_empty() {
        plan = plan.fact("history", "cut off");
    }
    if old == Some(after) {
        return Ok(plan.fact("result", "already up to date"));
    }
    let (old, new) = (old.map(commit_id), commit_id(new));
    if let Some(from) = aim.unborn.filter(|from| *from != branch) {
        // Else HEAD would stay on a branch that the remote never had.
        plan = plan.change(this, &GitStep::PointHead { from, to: branch.clone() })?;
    }
    if let (true, Some(commit)) = (follows, old.clone()) {
        plan = plan.change(this, &GitStep::KeepTip { branch: branch.clone(), commit })?;
    }
    let MergeOptions { overwrite_ignored, submodules, .. } = options.merge;
    let landing = Landing { branch, old, new, merge: None, overwrite_ignored, submodules };
    place(this, repo, plan, landing)
}

/// The branch that is asked for or that `HEAD` is on, and where it is pulled from.
pub(crate) fn upstream_of(
    repo: &gix::Repository,
    asked: Option<&BranchName>,
) -> Result<(BranchName, Upstream), Error> {
    let branch = if let Some(branch) = asked {
        Some(branch.clone())
    } else {
        let head = repo.head_name().doing(|| "HEAD cannot be read".into())?;
        head.and_then(|name| BranchName::from_full(name.as_ref()))
    };
    let branch = branch.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "HEAD is on no branch").remedy("name the branch")
    })?;
    let upstream = Upstream::of(repo, &branch).ok_or_else(|| {
        let reasons = vec![Blocker::NoUpstream { branch: branch.clone() }.into()];
        Error::refused("there is nothing to compare with", reasons)
    })?;
    Ok((branch, upstream))
}

fn none_of(remote: &str, what: &str, fetched: &Fetched) -> Error {
    let names: Vec<_> = fetched.branches.keys().take(20).map(|name| format!("`{name}`")).collect();
    let there = if names.is_empty() { "no branch at all".into() } else { names.join(", ") };
    Error::new(ErrorKind::NotFound, format!("remote `{remote}` has no {what}"))
        .remedy(format!("it has {there}; name one of them, or push first"))
}
