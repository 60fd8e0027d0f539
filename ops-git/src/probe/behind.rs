//! Whether a branch has what its upstream has.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::Context;
use ops_core::probe::{Health, Probe};

use crate::ahead_behind::ahead_behind;
use crate::error::Error;
use crate::fetch::{Task, fetch};
use crate::id::BranchName;
use crate::pull::upstream_of;
use crate::refs;
use crate::repository::GitRepository;

/// Healthy if a branch has every commit that its upstream has *now*.
///
/// It asks the remote which commit it is at and fetches nothing, so it changes nothing. A remote
/// that cannot be reached, or history that is cut off where the answer lies, is unknown.
///
/// ```no_run
/// # async fn example(cx: &ops_core::Context) -> Result<(), ops_git::Error> {
/// use ops_core::probe::Probe as _;
/// use ops_git::{BehindUpstream, GitRepository};
///
/// let probe = BehindUpstream::new(GitRepository::open("/srv/app.git")?, cx).at_most(10);
/// println!("{:?}", probe.check().await);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BehindUpstream {
    name: String,
    repository: GitRepository,
    branch: Option<BranchName>,
    at_most: usize,
    deadline: Duration,
    cx: Context,
}

impl BehindUpstream {
    /// Looks at the branch that `HEAD` is on.
    pub fn new(repository: GitRepository, cx: &Context) -> Self {
        let name = format!("upstream of {}", repository.git_dir().display());
        let deadline = Duration::from_secs(30);
        Self { name, repository, branch: None, at_most: 0, deadline, cx: cx.clone() }
    }

    /// Looks at this branch.
    pub fn branch(mut self, branch: BranchName) -> Self {
        self.branch = Some(branch);
        self
    }

    /// Lets the branch be so many commits behind. Default: 0. Commits that were not fetched yet
    /// cannot be counted, and are too many whatever this says.
    pub fn at_most(mut self, commits: usize) -> Self {
        self.at_most = commits;
        self
    }

    /// Bounds the question to the remote. Default: 30 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn look(&self) -> Result<Health, Error> {
        let asked = self.branch.clone();
        let (branch, upstream) =
            self.repository.blocking(move |repo| upstream_of(repo, asked.as_ref())).await?;
        let listed =
            fetch(&self.repository, &upstream.remote, Task::List, self.deadline, &self.cx).await?;
        let there = format!("{}/{}", upstream.remote, upstream.branch);
        let Some(theirs) = listed.branches.get(&upstream.branch).copied() else {
            return Ok(Health::unhealthy(format!("the remote has no branch `{there}`")));
        };
        let at_most = self.at_most;
        self.repository
            .blocking(move |repo| {
                let Some(ours) = refs::tip(repo, &branch.full())? else {
                    return Ok(Health::unhealthy(format!("branch `{branch}` was never pulled")));
                };
                if ours == theirs {
                    return Ok(Health::Healthy);
                }
                if !repo.has_object(theirs) {
                    return Ok(Health::unhealthy(format!(
                        "branch `{branch}` is at {ours}, `{there}` at {theirs}, which was not \
                         fetched yet"
                    )));
                }
                let apart = ahead_behind(repo, ours, theirs)?;
                Ok(if apart.behind <= at_most {
                    Health::Healthy
                } else if apart.cut && apart.ahead > 0 {
                    Health::unknown(format!("the history of `{branch}` is cut off"))
                } else {
                    Health::unhealthy(format!(
                        "branch `{branch}` is {} commits behind `{there}`, and {at_most} may be",
                        apart.behind
                    ))
                })
            })
            .await
    }
}

impl Probe for BehindUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            match self.look().await {
                Ok(health) => health,
                Err(error) => Health::unknown(ops_core::error::chain(&error).join(": ")),
            }
        }
        .boxed()
    }
}
