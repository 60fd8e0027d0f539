//! The Docker host itself: what it is as a resource.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::Probe;
use ops_core::version::VersionPolicy;
use ops_core::{Resource, ResourceId};

use super::address::EngineAddress;
use super::builder::DockerHostBuilder;
use super::engine::Engine;
use super::spec::ContainerSpec;
use super::step::DockerStep;
use crate::gate::Gate;
use crate::stages::Stages;

/// An application on one Docker engine. Cheap to clone.
///
/// Deployers of several machines exclude each other by a container on the engine that is never
/// started, `<application>.ops-lock`; each machine keeps a history in a folder of its own, which it
/// completes from what it sees on the engine.
///
/// ```no_run
/// use ops_core::{Context, Environment};
/// use ops_deploy::{ContainerSpec, DockerHost, ProxyClient, Target};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let web = ContainerSpec::new("web", "registry.internal/shop")
///     .argv(["serve", "--port", "{port}"])
///     .secret("database-url", "/etc/shop/database-url")
///     .traffic(ProxyClient::new("/srv/shop/proxy"));
/// let host = DockerHost::builder("shop", "unix:///var/run/docker.sock", "/var/lib/shop")
///     .service(web)
///     .build()?;
/// let cx = Context::builder("/var/lib/ops").environment(Environment::Staging).build();
/// host.deploy(&cx, &"1a2b3c4".parse()?).await?;
/// host.rollback(&cx, None).await?; // the old container is still there, and has but to start
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DockerHost(pub(super) Arc<Settings>);

#[derive(Debug)]
pub(super) struct Settings {
    pub application: String,
    pub folder: PathBuf,
    pub engine: Engine,
    pub services: Vec<ContainerSpec>,
    pub policy: VersionPolicy,
    pub gate: Gate,
    pub guards: Vec<Arc<dyn Probe>>,
    pub keep: usize,
    pub keep_warm: bool,
    pub drain: Duration,
    pub deadline: Duration,
    pub lease: Duration,
    pub stages: Stages,
}

impl Resource for DockerHost {
    type Step = DockerStep;

    fn id(&self) -> ResourceId {
        let Settings { application, engine, .. } = &*self.0;
        ResourceId::new("docker", format_args!("{}#{application}", engine.host()))
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.0.folder.join(format!(".{}.lock", self.0.application)))
    }
}

impl DockerHost {
    /// Sets up an application of this name on the engine at this address (`unix:///path`,
    /// `ssh://user@host`, or an [`EngineAddress`] with TLS); the folder holds this machine's history of it, and must exist.
    pub fn builder(
        application: impl Into<String>,
        engine: impl Into<EngineAddress>,
        folder: impl Into<PathBuf>,
    ) -> DockerHostBuilder {
        DockerHostBuilder::new(application.into(), engine.into(), folder.into())
    }

    /// The application's name.
    pub fn application(&self) -> &str {
        &self.0.application
    }

    pub(super) fn service(&self, name: &str) -> Option<&ContainerSpec> {
        self.0.services.iter().find(|service| service.name == name)
    }

    pub(super) fn history_path(&self) -> PathBuf {
        self.0.folder.join(format!("{}.history.json", self.0.application))
    }
}
