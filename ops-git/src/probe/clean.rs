//! Whether nothing stands in the way.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::{Health, Probe};

use crate::blocker::{Blocker, Inspection};
use crate::inspect::InspectOptions;
use crate::repository::GitRepository;

/// Healthy if an [inspection](GitRepository::inspect_with) finds nothing in the way.
///
/// Each blocker is a reason to be unhealthy. If the repository cannot be read, or whether its work
/// tree is clean cannot be told, it is unknown.
///
/// ```no_run
/// # async fn example() -> Result<(), ops_git::Error> {
/// use ops_core::probe::Probe as _;
/// use ops_git::{GitRepository, InspectOptions, RepositoryClean};
///
/// let site = GitRepository::open("/srv/site")?;
/// let probe = RepositoryClean::new(site, InspectOptions::default().allow_untracked());
/// println!("{:?}", probe.check().await);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RepositoryClean {
    name: String,
    repository: GitRepository,
    options: InspectOptions,
}

impl RepositoryClean {
    /// Nothing may be in the way in this repository but for what the options let pass.
    pub fn new(repository: GitRepository, options: InspectOptions) -> Self {
        let name = format!("clean repository {}", repository.git_dir().display());
        Self { name, repository, options }
    }
}

impl Probe for RepositoryClean {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            match self.repository.inspect_with(self.options.clone()).await {
                Ok(found) => health(&found),
                Err(error) => Health::unknown(ops_core::error::chain(&error).join(": ")),
            }
        }
        .boxed()
    }
}

fn health(found: &Inspection) -> Health {
    if found.is_clear() {
        return Health::Healthy;
    }
    let reasons: Vec<_> = found.refusals().iter().map(ToString::to_string).collect();
    let reasons = reasons.join("; ");
    let is_unknown = |blocker: &Blocker| matches!(blocker, Blocker::StatusUnknown { .. });
    // What is known to be in the way is no better for what is not known.
    if found.blockers.iter().all(is_unknown) {
        Health::unknown(reasons)
    } else {
        Health::unhealthy(reasons)
    }
}
