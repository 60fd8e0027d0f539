//! Services of a Docker Swarm, which exist already.
//!
//! ```toml
//! [swarm]
//! application = "shop"
//! engine = "unix:///var/run/docker.sock"      # a manager
//! state = "/var/lib/shop"                     # holds this machine's history; must exist
//! tags = false                                # whether other tags than commits are versions
//!
//! [[swarm.service]]
//! name = "shop_web"
//! image = "registry.internal/shop/web"        # the version is the tag
//! public_url = "https://shop.example"
//! ```

use std::path::PathBuf;

use ops_core::version::VersionPolicy;
use ops_deploy::{Swarm, SwarmService};
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

use super::parts::{GateConfig, Health};
use crate::site::Site;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmConfig {
    application: String,
    engine: String,
    state: PathBuf,
    #[serde(default)]
    tags: bool,
    #[serde(default)]
    service: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    image: String,
    public_url: Option<Url>,
}

impl SwarmConfig {
    pub fn site(self, health: &Health, gate: &GateConfig) -> Result<Site, Failure> {
        let policy = if self.tags { VersionPolicy::ShaOrTag } else { VersionPolicy::ShaOnly };
        let mut swarm = Swarm::builder(self.application, self.engine, self.state)
            .versions(policy)
            .gate(gate.gate());
        for Service { name, image, public_url } in self.service {
            let mut service = SwarmService::new(name, image);
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
        Ok(Site::Swarm(swarm.build()?))
    }
}
