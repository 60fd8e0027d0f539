//! The target of a site, and what not every target can.

use ops_core::{Context, Plan};
#[cfg(feature = "docker")]
use ops_deploy::docker::{DockerHost, DockerHosts, Swarm};
use ops_deploy::{Provider, ReleaseDirectory, Target};
use ops_examples::Failure;

#[derive(Debug)]
pub enum Site {
    Releases {
        releases: ReleaseDirectory,
        /// What is not there is built.
        builds: bool,
    },
    Provider {
        provider: Provider,
        /// The tool cannot list its versions: it says itself when it does not know one.
        any_version: bool,
    },
    #[cfg(feature = "docker")]
    Docker(DockerHost),
    #[cfg(feature = "docker")]
    Hosts(DockerHosts),
    #[cfg(feature = "docker")]
    Swarm(Swarm),
}

impl Site {
    pub fn target(&self) -> &dyn Target {
        match self {
            Self::Releases { releases, .. } => releases,
            Self::Provider { provider, .. } => provider,
            #[cfg(feature = "docker")]
            Self::Docker(host) => host,
            #[cfg(feature = "docker")]
            Self::Hosts(hosts) => hosts,
            #[cfg(feature = "docker")]
            Self::Swarm(swarm) => swarm,
        }
    }

    /// Whether a version that is not listed must be refused before anything is planned. Targets
    /// with images say for themselves what a version lacks.
    pub fn must_be_listed(&self) -> bool {
        matches!(
            self,
            Self::Releases { builds: false, .. } | Self::Provider { any_version: false, .. }
        )
    }

    pub async fn plan_cleanup(&self, cx: &Context) -> Result<Plan, Failure> {
        match self {
            Self::Releases { releases, .. } => Ok(releases.plan_cleanup(cx).await?),
            #[cfg(feature = "docker")]
            Self::Docker(host) => Ok(host.plan_cleanup(cx).await?),
            #[cfg(feature = "docker")]
            Self::Hosts(hosts) => {
                let mut plan = Plan::new("cleanup");
                for host in hosts.hosts() {
                    plan = plan.then(host.plan_cleanup(cx).await?);
                }
                Ok(plan.named("cleanup"))
            }
            _ => Err(Failure::usage(format!(
                "`{}` keeps no old releases that could be removed from here",
                self.target().name()
            ))),
        }
    }
}
