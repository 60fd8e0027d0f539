//! How a Docker host is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::version::VersionPolicy;

use super::engine::Engine;
use super::host::{DockerHost, Settings};
use super::spec::{ContainerSpec, is_name};
use crate::error::Error;
use crate::gate::Gate;
use crate::set_up::{Reasons, setters};
use crate::stages::{Bake, Hook, Migration, When};

/// Sets up a [`DockerHost`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct DockerHostBuilder(Settings);

impl DockerHostBuilder {
    pub(super) fn new(application: String, engine: String, folder: PathBuf) -> Self {
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
            build: None,
            hooks: Vec::new(),
            migration: None,
            bake: None,
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
        self.0.build = Some(build);
        self
    }

    /// Adds a command between two stages, of deployments and rollbacks alike. In an emergency only
    /// those run that come after the commit.
    pub fn hook(mut self, when: When, hook: Hook) -> Self {
        self.0.hooks.push((when, hook));
        self
    }

    /// What migrates the schema before a deployment starts the new containers. Default: nothing.
    pub fn migration(mut self, migration: Migration) -> Self {
        self.0.migration = Some(migration);
        self
    }

    /// How the new version is watched before the commit. The operation's
    /// [`deadline`](Self::deadline) must leave time for it. Default: not at all.
    pub fn bake(mut self, bake: Bake) -> Self {
        self.0.bake = Some(bake);
        self
    }

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
        let host = settings.engine.host();
        let schemes = ["unix:///", "tcp://", "http://"];
        if !schemes.iter().any(|scheme| host.len() > scheme.len() && host.starts_with(scheme)) {
            reasons.add(
                format!("`{host}` is no engine's address"),
                "give unix:///path/to/docker.sock, or tcp://host:port in a network that you trust",
            );
        }
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
        for (n, (when, hook)) in settings.hooks.iter().enumerate() {
            if settings.hooks[..n].iter().any(|(at, other)| at == when && other.name == hook.name) {
                reasons.add(
                    format!("two commands of one stage are named `{}`", hook.name),
                    "give each its own name, by which journals know it",
                );
            }
        }
        if settings.bake.as_ref().is_some_and(|bake| bake.lasts >= settings.deadline) {
            reasons.add(
                "the watch lasts longer than the whole operation may",
                "raise the deadline, or watch for less",
            );
        }
        reasons.extend(settings.services.iter().flat_map(ContainerSpec::check));
        reasons.extend(crate::gate::nameless(&settings.guards));
        reasons.extend(settings.hooks.iter().flat_map(|(_, hook)| hook.check()));
        reasons.extend(settings.build.iter().flat_map(Hook::check));
        reasons.extend(settings.migration.iter().flat_map(Migration::check));
        reasons.none("the Docker host")?;
        Ok(DockerHost(Arc::new(self.0)))
    }
}
