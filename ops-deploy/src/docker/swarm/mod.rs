//! Services of a Docker Swarm as a target.
//!
//! The services exist already (`docker stack deploy`, `docker service create`): a deployment gives
//! them another image, by compare-and-swap on the service's version, and waits until every task
//! that Swarm wants is a new one that runs. New tasks start before old ones stop, and Swarm's own
//! network moves the traffic. A config object is the lock: it is updated by compare-and-swap, too.
//! As the traffic moves with the tasks, commands of [`When::BeforeSwitch`](crate::When::BeforeSwitch)
//! run before the first service is updated.

mod builder;
mod cluster;
mod lock;
mod plan;
mod secrets;
mod services;
mod stages;
mod status;
mod step;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::{HttpProbe, Probe};
use ops_core::version::VersionPolicy;
use ops_core::{Resource, ResourceId, Version};
use url::Url;

pub use builder::{SwarmBuilder, SwarmService};
pub use status::{SwarmStatus, Task};
pub use step::SwarmStep;

use super::address::EngineAddress;
use super::engine::Engine;
use crate::gate::Gate;
use crate::service::Identity;
use crate::stages::Stages;

/// An application whose services a Docker Swarm runs. Cheap to clone. The engine is a manager.
///
/// Images are pinned by the digest of their registry where they have one; an image that was only
/// loaded or built on the manager is pinned by its id, and other nodes cannot have it.
///
/// ```no_run
/// use ops_core::{Context, Environment};
/// use ops_deploy::docker::{Swarm, SwarmService};
/// use ops_deploy::Target;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let web = SwarmService::new("shop_web", "registry.internal/shop")
///     .public_url("https://shop.example".parse()?);
/// let swarm = Swarm::builder("shop", "unix:///var/run/docker.sock", "/var/lib/shop")
///     .service(web)
///     .build()?;
/// let cx = Context::builder("/var/lib/ops").environment(Environment::Staging).build();
/// swarm.deploy(&cx, &"1a2b3c4".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Swarm(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    application: String,
    folder: PathBuf,
    engine: Engine,
    services: Vec<SwarmService>,
    policy: VersionPolicy,
    gate: Gate,
    guards: Vec<Arc<dyn Probe>>,
    converge: Duration,
    settle: Duration,
    deadline: Duration,
    lease: Duration,
    stages: Stages,
}

impl Resource for Swarm {
    type Step = SwarmStep;

    fn id(&self) -> ResourceId {
        let Settings { application, engine, .. } = &*self.0;
        ResourceId::new("swarm", format_args!("{}#{application}", engine.host()))
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.0.folder.join(format!(".{}.lock", self.0.application)))
    }
}

impl Swarm {
    /// Sets up an application of this name; the engine at this address is a manager of the Swarm,
    /// and the folder, which must exist, holds this machine's history.
    pub fn builder(
        application: impl Into<String>,
        engine: impl Into<EngineAddress>,
        folder: impl Into<PathBuf>,
    ) -> SwarmBuilder {
        SwarmBuilder::new(application.into(), engine.into(), folder.into())
    }

    fn history_path(&self) -> PathBuf {
        self.0.folder.join(format!("{}.history.json", self.0.application))
    }
}

impl SwarmService {
    fn probe(&self, version: &Version) -> Option<HttpProbe> {
        let url = self.public_url.as_ref()?.as_str().trim_end_matches('/');
        let probe = HttpProbe::new(format!("{url}{}", self.health_path));
        let probe = match &self.identity {
            Identity::Header(name) => probe.header(name, version.as_str()),
            Identity::JsonField(pointer) => probe.json_field(pointer, version.as_str()),
        };
        Some(probe.named(format!("the public address of `{}`", self.name)))
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}
