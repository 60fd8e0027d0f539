//! How a Docker host is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::Refusal;
use ops_core::probe::Probe;
use ops_core::version::VersionPolicy;

use super::engine::Engine;
use super::host::{DockerHost, Settings};
use super::spec::{ContainerSpec, is_name};
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
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

    /// Which tags are versions. Default: the first 7 digits of a commit id. `latest` never is.
    pub fn versions(mut self, policy: VersionPolicy) -> Self {
        self.0.policy = policy;
        self
    }

    /// When new containers are good enough.
    pub fn gate(mut self, gate: Gate) -> Self {
        self.0.gate = gate;
        self
    }

    /// Adds a probe that must be healthy, too, in the same rounds as the gate. Journals know it by
    /// its name. Default: none.
    pub fn guard(mut self, guard: impl Probe + 'static) -> Self {
        self.0.guards.push(Arc::new(guard));
        self
    }

    /// How many versions stay besides the current one and the previous one. Default: 3.
    pub fn keep(mut self, versions: usize) -> Self {
        self.0.keep = versions;
        self
    }

    /// Whether the previous containers of services with traffic keep running, out of traffic, so
    /// that a rollback need not start them. Default: no, they are stopped and kept.
    pub fn keep_previous_warm(mut self, keep: bool) -> Self {
        self.0.keep_warm = keep;
        self
    }

    /// How long a container that goes may take for the requests that it has begun; what is left
    /// then is cut off. Default: 15 s.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.0.drain = drain;
        self
    }

    /// How long an operation may take until its commit. Default: 5 min.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.deadline = deadline;
        self
    }

    /// How long one call to the engine may take; stopping a container has its grace besides.
    /// Default: 30 s.
    pub fn engine_deadline(mut self, deadline: Duration) -> Self {
        self.0.engine.set_deadline(deadline);
        self
    }

    /// After how long the lock of a deployer that died may be taken over, by the engine's clock.
    /// It must be longer than an operation with its way back. Default: 20 min.
    pub fn lock_lease(mut self, lease: Duration) -> Self {
        self.0.lease = lease;
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
    /// [`ErrorKind::InvalidConfig`] with every reason at once.
    pub fn build(mut self) -> Result<DockerHost, Error> {
        let settings = &mut self.0;
        let mut refusals = Vec::new();
        let mut refuse = |reason: String, remedy: &str| {
            refusals.push(Refusal::new(reason, remedy));
        };
        if !is_name(&settings.application) {
            refuse(
                format!("no container can bear the application's name `{}`", settings.application),
                "take lower-case letters, digits and `-`, a letter first",
            );
        }
        let host = settings.engine.host();
        let schemes = ["unix:///", "tcp://", "http://"];
        if !schemes.iter().any(|scheme| host.len() > scheme.len() && host.starts_with(scheme)) {
            refuse(
                format!("`{host}` is no engine's address"),
                "give unix:///path/to/docker.sock, or tcp://host:port in a network that you trust",
            );
        }
        match settings.folder.canonicalize() {
            Ok(folder) if folder.is_dir() => settings.folder = folder,
            Ok(folder) => refuse(
                format!("`{}` is no folder", folder.display()),
                "give the folder for this machine's history",
            ),
            Err(error) => refuse(
                format!("the folder `{}` cannot be had: {error}", settings.folder.display()),
                "create it",
            ),
        }
        if settings.services.is_empty() {
            refuse("there is no service".into(), "add at least one");
        }
        if settings.gate.consecutive == 0 {
            refuse("a gate of no answers lets everything pass".into(), "ask for at least one");
        }
        for (n, service) in settings.services.iter().enumerate() {
            if settings.services[..n].iter().any(|other| other.name == service.name) {
                refuse(
                    format!("two services are named `{}`", service.name),
                    "give each service its own name",
                );
            }
        }
        for (n, (when, hook)) in settings.hooks.iter().enumerate() {
            if settings.hooks[..n].iter().any(|(at, other)| at == when && other.name == hook.name) {
                refuse(
                    format!("two commands of one stage are named `{}`", hook.name),
                    "give each its own name, by which journals know it",
                );
            }
        }
        if settings.bake.as_ref().is_some_and(|bake| bake.lasts >= settings.deadline) {
            refuse(
                "the watch lasts longer than the whole operation may".into(),
                "raise the deadline, or watch for less",
            );
        }
        refusals.extend(settings.services.iter().flat_map(ContainerSpec::check));
        refusals.extend(crate::gate::nameless(&settings.guards));
        refusals.extend(settings.hooks.iter().flat_map(|(_, hook)| hook.check()));
        refusals.extend(settings.build.iter().flat_map(Hook::check));
        refusals.extend(settings.migration.iter().flat_map(Migration::check));
        if refusals.is_empty() {
            return Ok(DockerHost(Arc::new(self.0)));
        }
        Err(Error::new(ErrorKind::InvalidConfig, "the Docker host is not set up well")
            .refusals(refusals))
    }
}
