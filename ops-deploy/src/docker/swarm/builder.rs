//! How a Swarm is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::version::VersionPolicy;
use url::Url;

use super::super::address::EngineAddress;
use super::super::spec::{is_name, plain};
use super::{Engine, Settings, Swarm, is_web};
use crate::error::Error;
use crate::gate::Gate;
use crate::preflight::Preflight;
use crate::service::Identity;
use crate::set_up::{Reasons, setters};
use crate::stages::{Hook, Stages};

/// A service of a Swarm, which exists already.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SwarmService {
    /// The service's name in the Swarm.
    pub name: String,
    /// The image's repository, without a tag: the version is the tag.
    pub repository: String,
    /// The address under which the public reaches it; without one it is enough that its tasks run.
    pub public_url: Option<Url>,
    /// Where it answers for its health. Default: `/health`.
    pub health_path: String,
    /// How it says which version it is. Default: the header `x-version`.
    pub identity: Identity,
    /// The ports of its nodes on which its tasks are reached, and their own. Default: what the
    /// service has already.
    pub ports: Vec<(u16, u16)>,
    /// Files of this machine that its tasks find as `/run/secrets/<name>`. Default: what the service
    /// has already.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Whether old tasks end before new ones start. Default: no, new ones start first.
    pub stop_first: bool,
}

impl SwarmService {
    /// The service of this name, whose images lie in this repository.
    pub fn new(name: impl Into<String>, repository: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            repository: repository.into(),
            public_url: None,
            health_path: "/health".to_owned(),
            identity: Identity::Header("x-version".to_owned()),
            ports: Vec::new(),
            secrets: BTreeMap::new(),
            stop_first: false,
        }
    }

    /// Says where the public reaches it.
    pub fn public_url(mut self, url: Url) -> Self {
        self.public_url = Some(url);
        self
    }

    /// Says where it answers for its health.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = path.into();
        self
    }

    /// Publishes a port of its tasks on the nodes that run them (host mode), and resolves the
    /// service's name to its tasks' addresses (dnsrr): nothing of it needs the kernel's IP_VS. What
    /// the service published before comes back when the operation goes back.
    ///
    /// No two tasks have the same port of a node: while the new one starts beside the old, it needs
    /// another node. Where there is none, say [`stop_first`](Self::stop_first).
    pub fn publish(mut self, on_node: u16, of_task: u16) -> Self {
        self.ports.push((on_node, of_task));
        self
    }

    /// Gives its tasks a file of this machine as `/run/secrets/<name>`, at most 500 KiB: a secret of
    /// the Swarm is made of it with each operation, and goes through the engine's address alone. The
    /// service's other secrets go; what it had comes back when the operation goes back. Only the user 0 of
    /// the container can read it (mode 0400), so the service must begin as that one.
    pub fn secret(mut self, name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        self.secrets.insert(name.into(), file.into());
        self
    }

    /// Ends old tasks before new ones start: nobody answers in between.
    pub fn stop_first(mut self) -> Self {
        self.stop_first = true;
        self
    }

    /// Says how it tells its version.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }
}

/// Sets up a [`Swarm`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct SwarmBuilder(Settings);

impl SwarmBuilder {
    pub(super) fn new(application: String, engine: EngineAddress, folder: PathBuf) -> Self {
        Self(Settings {
            application,
            folder,
            engine: Engine::new(engine, Duration::from_secs(30)),
            services: Vec::new(),
            policy: VersionPolicy::default(),
            gate: Gate::default(),
            guards: Vec::new(),
            converge: Duration::from_mins(2),
            settle: Duration::from_secs(5),
            deadline: Duration::from_mins(10),
            lease: Duration::from_mins(30),
            stages: Stages { preflight: Some(Preflight::default()), ..Stages::default() },
        })
    }

    /// Adds a service. Services are updated in the order in which they are added.
    pub fn service(mut self, service: SwarmService) -> Self {
        self.0.services.push(service);
        self
    }

    setters!(versions);
    setters!(gate: "When the public is heard well enough.");
    setters!(guard);
    setters!(deadline: "10 min");
    setters!(lock_lease: "30 min");
    setters!(stages);

    /// The command that makes the images of a version which has none yet, tags them on the manager,
    /// and brings them to where the other nodes find them. They stay, also when the operation goes
    /// back. Default: none, and a version without images is refused when it is planned.
    pub fn build_images(mut self, build: Hook) -> Self {
        self.0.stages.build = Some(build);
        self
    }

    /// How long Swarm may take until all tasks of one service are new ones that run.
    /// Default: 2 min.
    pub fn converge_within(mut self, converge: Duration) -> Self {
        self.0.converge = converge;
        self
    }

    /// How long the same tasks must have run before they are believed. Default: 5 s.
    pub fn settle(mut self, settle: Duration) -> Self {
        self.0.settle = settle;
        self
    }

    /// The Swarm. Blocks for a moment; the engine is asked later.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) with every reason at once.
    pub fn build(mut self) -> Result<Swarm, Error> {
        let settings = &mut self.0;
        let mut reasons = Reasons::default();
        if !is_name(&settings.application) {
            reasons.add(
                format!("no config can bear the application's name `{}`", settings.application),
                "take lower-case letters, digits and `-`, a letter first",
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
            let name = &service.name;
            if name.is_empty() || settings.services[..n].iter().any(|other| other.name == *name) {
                reasons.add(
                    format!("the service `{name}` has no name of its own"),
                    "give each service the name that it has in the Swarm",
                );
            }
            let on_nodes: BTreeSet<_> = service.ports.iter().map(|(on_node, _)| on_node).collect();
            if service.ports.iter().any(|(on_node, of_task)| *on_node == 0 || *of_task == 0)
                || on_nodes.len() < service.ports.len()
            {
                reasons.add(
                    format!("the service `{name}` publishes a port 0, or one twice"),
                    "give each its own, from 1 on",
                );
            }
            for secret in service.secrets.keys().filter(|secret| !plain(secret)) {
                reasons.add(
                    format!("the service `{name}` has the secret `{secret}`, which is no name"),
                    "give it the name of a file",
                );
            }
            if !service.health_path.starts_with('/')
                || service.public_url.as_ref().is_some_and(|url| !is_web(url))
            {
                reasons.add(
                    format!("the service `{name}` has no address that can be asked"),
                    "begin its public address with http:// or https://, its health path with /",
                );
            }
        }
        reasons.extend(settings.engine.address().check());
        reasons.extend(crate::gate::nameless(&settings.guards));
        reasons.extend(settings.stages.check(settings.deadline));
        reasons.none("the Swarm")?;
        Ok(Swarm(Arc::new(self.0)))
    }
}
