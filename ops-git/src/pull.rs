//! Pulling: fetch, then fast-forward.

use std::time::Duration;

use ops_core::{Context, Plan, Refusal, Report};

use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::fetch::{Fetched, fetch};
use crate::history::apart;
use crate::id::{BranchName, commit_id};
use crate::inspect::{Upstream, of_the_repository};
use crate::refs;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::versions::version_of;

/// How to pull.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullOptions {
    /// The branch. Default: the one that `HEAD` is on; before the first pull, the remote's default.
    pub branch: Option<BranchName>,
    /// How long the fetch may take. Default: 5 minutes.
    pub deadline: Duration,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { branch: None, deadline: Duration::from_mins(5) }
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
    /// Fetches, and plans the fast-forward of a branch to what its upstream has now.
    ///
    /// This is the one planning that changes something: objects, remote-tracking refs and new tags
    /// come over, durably, because the plan cannot be made without them. They stay even if
    /// the plan is never run. If nothing is new the plan is empty.
    ///
    /// Facts of the plan: `branch`, `sha_before`, `sha_after`, `commits`, `upstream`.
    ///
    /// A fetch that hangs ends with an error at its deadline or at the context's cancellation; so
    /// does dropping the future. Its thread then ends by itself, at the latest when the
    /// connection's own timeout, which is the same deadline, has passed; until then it may still
    /// move remote-tracking refs. Temporary files below `objects/pack` may stay, which `git gc`
    /// removes.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once, [`ErrorKind::Diverged`] with both
    /// commits, [`ErrorKind::NotFound`] if the remote has no such branch, and those of the fetch:
    /// [`ErrorKind::Remote`], [`ErrorKind::TimedOut`], [`ErrorKind::Cancelled`],
    /// [`ErrorKind::Unauthenticated`].
    pub async fn plan_pull(&self, cx: &Context, options: PullOptions) -> Result<Plan, Error> {
        let asked = options.branch.clone();
        let aim = self.blocking(move |repo| aim(repo, asked.as_ref())).await?;
        let fetched = fetch(self, &aim.remote, options.deadline, cx).await?;
        let this = self.clone();
        self.blocking(move |repo| plan(&this, repo, aim, &fetched)).await
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
        blockers.extend(checked_out(repo, branch));
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

/// A branch that a work tree has checked out must not move without it.
pub(crate) fn checked_out(repo: &gix::Repository, branch: &BranchName) -> Vec<Blocker> {
    let on_it = |repo: &gix::Repository| {
        repo.head_name()
            .ok()
            .flatten()
            .and_then(|name| BranchName::from_full(name.as_ref()))
            .as_ref()
            == Some(branch)
    };
    let mut found = Vec::new();
    let mut look = |repo: &gix::Repository| {
        if let Some(worktree) = repo.workdir().filter(|_| on_it(repo)) {
            let worktree = worktree.to_owned();
            found.push(Blocker::CheckedOut { branch: branch.clone(), worktree });
        }
    };
    look(repo);
    if let Ok(main) = repo.main_repo()
        && main.git_dir() != repo.git_dir()
    {
        look(&main);
    }
    for proxy in repo.worktrees().into_iter().flatten() {
        if let Ok(linked) = proxy.into_repo_with_possibly_inaccessible_worktree()
            && linked.git_dir() != repo.git_dir()
        {
            look(&linked);
        }
    }
    found
}

fn plan(
    this: &GitRepository,
    repo: &gix::Repository,
    aim: Aim,
    fetched: &Fetched,
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
    Ok(plan
        .change(this, &GitStep::MoveBranch { branch: branch.clone(), old, new: new.clone() })?
        .change(this, &GitStep::VerifyBranch { branch: branch.clone(), commit: new })?
        .finisher(this, &GitStep::ReleaseTip { branch })?)
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
