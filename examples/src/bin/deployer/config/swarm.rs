//! Services of a Docker Swarm, which exist already.
//!
//! ```toml
//! [swarm]
//! application = "shop"
//! engine = "unix:///var/run/docker.sock"      # a manager
//! state = "/var/lib/shop"                     # holds this machine's history; must exist
//! tags = false                                # whether other tags than commits are versions
//! converge_seconds = 120                      # until all tasks of a service are new ones that run
//! settle_seconds = 5                          # for which the same ones must run
//! deadline_seconds = 600                      # for an operation until its commit
//!
//! [swarm.tls]                                 # of a manager at tcp://host:port
//! ca = "/etc/shop/docker/ca.pem"
//! certificate = "/etc/shop/docker/cert.pem"
//! key = "/etc/shop/docker/key.pem"
//!
//! [[swarm.service]]
//! name = "shop_web"
//! image = "registry.internal/shop/web"        # the version is the tag
//! public_url = "https://shop.example"
//! publish = [[8080, 80]]                      # port of the node, port of the task; else as it is
//! stop_first = false                          # true: old tasks end before new ones start
//! secrets = { database-url = "/etc/shop/database-url" }  # appear in /run/secrets; else as it is
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::version::VersionPolicy;
use ops_deploy::{Swarm, SwarmService};
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

use super::parts::{GateConfig, Health, Tls, deadline, engine_at};
use super::stages::{Stages, staged};
use crate::site::Site;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmConfig {
    application: String,
    engine: String,
    state: PathBuf,
    #[serde(default)]
    tags: bool,
    converge_seconds: Option<u64>,
    settle_seconds: Option<u64>,
    deadline_seconds: Option<u64>,
    tls: Option<Tls>,
    #[serde(default)]
    service: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    image: String,
    public_url: Option<Url>,
    #[serde(default)]
    publish: Vec<(u16, u16)>,
    #[serde(default)]
    stop_first: bool,
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
}

impl SwarmConfig {
    pub fn site(
        self,
        health: &Health,
        gate: &GateConfig,
        stages: &Stages,
    ) -> Result<Site, Failure> {
        let policy = if self.tags { VersionPolicy::ShaOrTag } else { VersionPolicy::ShaOnly };
        let engine = engine_at(&self.engine, self.tls.as_ref());
        let mut swarm =
            Swarm::builder(self.application, engine, self.state).versions(policy).gate(gate.gate());
        if let Some(seconds) = self.converge_seconds {
            swarm = swarm.converge_within(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.settle_seconds {
            swarm = swarm.settle(Duration::from_secs(seconds));
        }
        if let Some(deadline) = deadline(self.deadline_seconds, stages, Duration::from_mins(10)) {
            swarm = swarm
                .deadline(deadline)
                .lock_lease(deadline.saturating_add(Duration::from_mins(20)));
        }
        if let Some(build) = &stages.build {
            swarm = swarm.build_images(build.clone());
        }
        for it in self.service {
            let Service { name, image, public_url, publish, stop_first, secrets } = it;
            let mut service = SwarmService::new(name, image);
            for (on_node, of_task) in publish {
                service = service.publish(on_node, of_task);
            }
            for (secret, file) in secrets {
                service = service.secret(secret, file);
            }
            if stop_first {
                service = service.stop_first();
            }
            if let Some(url) = public_url {
                service = service.public_url(url);
            }
            if let Some(path) = &health.path {
                service = service.health_path(path);
            }
            if let Some(identity) = health.identity()? {
                service = service.identity(identity);
            }
            swarm = swarm.service(service);
        }
        Ok(Site::Swarm(staged!(swarm, stages).build()?))
    }
}
