//! How a Docker host is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::version::VersionPolicy;

use super::address::EngineAddress;
use super::engine::Engine;
use super::host::{DockerHost, Settings};
use super::spec::{ContainerSpec, is_name};
use crate::error::Error;
use crate::gate::Gate;
use crate::preflight::Preflight;
use crate::set_up::{Reasons, setters};
use crate::stages::{Hook, Stages};

/// Sets up a [`DockerHost`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct DockerHostBuilder(Settings);

impl DockerHostBuilder {
    pub(super) fn new(application: String, engine: EngineAddress, folder: PathBuf) -> Self {
        Self(Settings {
            application,
            folder,
            engine: Engine::new(engine, Duration::from_secs(30)),
            services: Vec::new(),
            policy: VersionPolicy::default(),
            gate: Gate::default(),
            guards: Vec::new(),
            keep: 3,
            keep_warm: false,
            drain: Duration::from_secs(15),
            deadline: Duration::from_mins(5),
            lease: Duration::from_mins(20),
            stages: Stages { preflight: Some(Preflight::default()), ..Stages::default() },
        })
    }

    /// Adds a service. Services start and switch in the order in which they are added.
    pub fn service(mut self, service: ContainerSpec) -> Self {
        self.0.services.push(service);
        self
    }

    setters!(versions);
    setters!(gate: "When new containers are good enough.");
    setters!(guard);
    setters!(keep: "How many versions stay besides the current one and the previous one. Default: 3.");
    setters!(keep_previous_warm: "Whether the previous containers of services with traffic keep \
        running, out of traffic, so that a rollback need not start them. Default: no, they are \
        stopped and kept.");
    setters!(drain: "How long a container that goes may take for the requests that it has begun; \
        what is left then is cut off. Default: 15 s.");
    setters!(deadline: "5 min");
    setters!(lock_lease: "20 min");

    /// How long one call to the engine may take; stopping a container has its grace besides.
    /// Default: 30 s.
    pub fn engine_deadline(mut self, deadline: Duration) -> Self {
        self.0.engine.set_deadline(deadline);
        self
    }

    /// The command that makes the images of a version which has none yet, and tags them on the
    /// engine. They stay, also when the operation goes back. Default: none, and a version without
    /// images is refused when it is planned.
    pub fn build_images(mut self, build: Hook) -> Self {
        self.0.stages.build = Some(build);
        self
    }

    setters!(stages);

    /// The Docker host. Blocks for a moment; the engine is asked later.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) with every reason at once.
    pub fn build(mut self) -> Result<DockerHost, Error> {
        let settings = &mut self.0;
        let mut reasons = Reasons::default();
        if !is_name(&settings.application) {
            reasons.add(
                format!("no container can bear the application's name `{}`", settings.application),
                "take lower-case letters, digits and `-`, a letter first",
            );
        }
        reasons.extend(settings.engine.address().check());
        reasons.folder(
            "folder",
            &mut settings.folder,
            "give the folder for this machine's history",
        );
        reasons.services(settings.services.len());
        reasons.gate(&settings.gate);
        reasons.lease(settings.lease, settings.deadline);
        for (n, service) in settings.services.iter().enumerate() {
            if settings.services[..n].iter().any(|other| other.name == service.name) {
                reasons.add(
                    format!("two services are named `{}`", service.name),
                    "give each service its own name",
                );
            }
        }
        reasons.extend(settings.services.iter().flat_map(ContainerSpec::check));
        reasons.extend(crate::gate::nameless(&settings.guards));
        reasons.extend(settings.stages.check(settings.deadline));
        reasons.none("the Docker host")?;
        Ok(DockerHost(Arc::new(self.0)))
    }
}
