//! Containers on one Docker engine, or on several: all of them, or none.
//!
//! ```toml
//! [docker]
//! application = "shop"
//! engines = ["unix:///var/run/docker.sock"]   # or ssh://user@host, or tcp://host:port with TLS
//! state = "/var/lib/shop"                     # holds this machine's history; must exist
//! tags = false                                # whether other tags than commits are versions
//! keep = 3                                    # versions besides the current and the previous
//! keep_previous_warm = false
//! drain_seconds = 15                          # for the requests that an old container has begun
//! deadline_seconds = 300                      # for an operation until its commit
//!
//! [docker.tls]                                # of engines at tcp://host:port
//! ca = "/etc/shop/docker/ca.pem"
//! certificate = "/etc/shop/docker/cert.pem"
//! key = "/etc/shop/docker/key.pem"
//!
//! [[docker.service]]
//! name = "web"
//! image = "registry.internal/shop/web"        # the version is the tag
//! command = ["serve", "--port", "{port}"]     # else: the image's
//! ports = [20000, 29999]                      # on the host; or:
//! # network = { name = "shop", port = 8080 }  # in a network of their own; with both, port 8080 of
//! #                                           # that network is published on one of `ports`
//! proxy = "/srv/shop/proxy"                   # the state directory of its ops-proxy
//! public_url = "http://127.0.0.1:8080"
//! silent = false                              # true for a worker, which answers nobody
//! environment = { LOG = "info" }
//! secrets = { database-url = "/etc/shop/database-url" }  # appear in /run/secrets
//! volumes = { shop-data = "/data" }
//! memory_megabytes = 512
//! stop_grace_seconds = 10
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::version::VersionPolicy;
use ops_deploy::docker::{DockerHosts, Network};
use ops_deploy::{ContainerSpec, DockerHost, ProxyClient};
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

use super::parts::{GateConfig, Health, Tls, deadline, engine_at};
use super::stages::{Stages, staged};
use crate::site::Site;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerConfig {
    application: String,
    engines: Vec<String>,
    state: PathBuf,
    #[serde(default)]
    tags: bool,
    keep: Option<usize>,
    #[serde(default)]
    keep_previous_warm: bool,
    drain_seconds: Option<u64>,
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
    #[serde(default)]
    command: Vec<String>,
    ports: Option<(u16, u16)>,
    network: Option<NetworkConfig>,
    proxy: Option<PathBuf>,
    public_url: Option<Url>,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
    #[serde(default)]
    volumes: BTreeMap<String, PathBuf>,
    memory_megabytes: Option<u64>,
    stop_grace_seconds: Option<u64>,
    stop_signal: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkConfig {
    name: String,
    port: u16,
}

impl DockerConfig {
    pub fn site(
        self,
        health: &Health,
        gate: &GateConfig,
        stages: &Stages,
    ) -> Result<Site, Failure> {
        let services: Vec<_> =
            self.service.iter().map(|service| service.spec(health)).collect::<Result<_, _>>()?;
        let on = |engine: &String, state: PathBuf| {
            let policy = if self.tags { VersionPolicy::ShaOrTag } else { VersionPolicy::ShaOnly };
            let engine = engine_at(engine, self.tls.as_ref());
            let mut host = DockerHost::builder(&self.application, engine, state)
                .versions(policy)
                .gate(gate.gate())
                .keep_previous_warm(self.keep_previous_warm);
            for service in &services {
                host = host.service(service.clone());
            }
            if let Some(keep) = self.keep {
                host = host.keep(keep);
            }
            if let Some(seconds) = self.drain_seconds {
                host = host.drain(Duration::from_secs(seconds));
            }
            if let Some(deadline) = deadline(self.deadline_seconds, stages, Duration::from_mins(5))
            {
                host = host
                    .deadline(deadline)
                    .lock_lease(deadline.saturating_add(Duration::from_mins(15)));
            }
            if let Some(build) = &stages.build {
                host = host.build_images(build.clone());
            }
            let host = staged!(host, stages);
            Ok::<_, Failure>(host.build()?)
        };
        let mut hosts = Vec::new();
        for engine in &self.engines {
            // A history each, whichever place it has in the list: the hosts may have been apart.
            let state = self.state.join(folder_of(engine));
            if self.state.is_dir() {
                std::fs::create_dir_all(&state)
                    .map_err(|error| Failure::from(error).doing(state.display().to_string()))?;
            }
            hosts.push(on(engine, state)?);
        }
        if hosts.len() == 1 {
            return Ok(Site::Docker(hosts.remove(0)));
        }
        Ok(Site::Hosts(DockerHosts::new(hosts)?))
    }
}

/// The folder of an engine: its address in letters that every file system takes, and, as others may
/// look the same then, a number made of it (FNV-1a).
fn folder_of(engine: &str) -> String {
    let number = engine.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = engine.chars().map(plain).take(60).collect();
    format!("{}-{:08x}", name.trim_matches(['-', '.']), number >> 32)
}

impl Service {
    fn spec(&self, health: &Health) -> Result<ContainerSpec, Failure> {
        let mut spec = ContainerSpec::new(&self.name, &self.image).argv(&self.command);
        let address = Ipv4Addr::LOCALHOST.into();
        let network = match (&self.ports, &self.network) {
            (Some((first, last)), Some(NetworkConfig { name, port })) => Some(Network::Published {
                network: Some(name.clone()),
                port: *port,
                ports: *first..=*last,
                address,
            }),
            (Some((first, last)), None) => Some(Network::Host { ports: *first..=*last, address }),
            (None, Some(NetworkConfig { name, port })) => {
                Some(Network::Named { name: name.clone(), port: *port })
            }
            (None, None) => None,
        };
        if let Some(network) = network {
            spec = spec.network(network);
        }
        if let Some(path) = &health.path {
            spec = spec.health_path(path);
        }
        if let Some(identity) = health.identity()? {
            spec = spec.identity(identity);
        }
        if self.silent {
            spec = spec.silent();
        }
        for (name, value) in &self.environment {
            spec = spec.env(name, value);
        }
        for (name, file) in &self.secrets {
            spec = spec.secret(name, file);
        }
        for (source, target) in &self.volumes {
            spec = spec.volume(source, target);
        }
        if let Some(megabytes) = self.memory_megabytes {
            spec = spec.memory(megabytes.saturating_mul(1024 * 1024));
        }
        if let Some(seconds) = self.stop_grace_seconds {
            spec = spec.stop_grace(Duration::from_secs(seconds));
        }
        if let Some(signal) = &self.stop_signal {
            spec = spec.stop_signal(signal);
        }
        if let Some(proxy) = &self.proxy {
            spec = spec.traffic(ProxyClient::new(proxy));
        }
        if let Some(url) = &self.public_url {
            spec = spec.public_url(url.clone());
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_keeps_its_folder_wherever_it_stands() {
        assert_eq!(
            folder_of("unix:///var/run/docker.sock"),
            folder_of("unix:///var/run/docker.sock")
        );
        let names: Vec<_> =
            ["ssh://a-b", "ssh://a/b", "ssh://a.b"].into_iter().map(folder_of).collect();
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
        assert!(folder_of("../../etc").starts_with("etc-"), "{}", folder_of("../../etc"));
    }
}
