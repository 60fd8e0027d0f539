//! Containers on one Docker engine, or on several: all of them, or none.
//!
//! ```toml
//! [docker]
//! application = "shop"
//! engines = ["unix:///var/run/docker.sock"]
//! state = "/var/lib/shop"                     # holds this machine's history; must exist
//! tags = false                                # whether other tags than commits are versions
//! keep = 3                                    # versions besides the current and the previous
//! keep_previous_warm = false
//! bake_seconds = 60                           # watched for so long before the commit; else not
//!
//! [[docker.service]]
//! name = "web"
//! image = "registry.internal/shop/web"        # the version is the tag
//! command = ["serve", "--port", "{port}"]     # else: the image's
//! ports = [20000, 29999]                      # on the host; or:
//! # network = { name = "shop", port = 8080 }  # in a network of their own
//! proxy = "/srv/shop/proxy"                   # the state directory of its ops-proxy
//! public_url = "http://127.0.0.1:8080"
//! silent = false                              # true for a worker, which answers nobody
//! environment = { LOG = "info" }
//! secrets = { database-url = "/etc/shop/database-url" }  # appear in /run/secrets
//! volumes = { shop-data = "/data" }
//! memory_megabytes = 512
//! stop_grace_seconds = 10
//!
//! [docker.build]                              # makes images that are not there
//! command = ["make", "image", "VERSION={version}"]
//!
//! [docker.migration]
//! command = ["migrate", "up"]
//! rehearsal = ["migrate", "check"]            # 0: the old version could run afterwards; 3: not
//! allow_incompatible = false
//!
//! [[docker.hook]]
//! when = "after_switch"                       # before_start, before_switch, after_commit
//! name = "purge the cache"
//! command = ["purge", "{version}"]
//! undo = ["purge", "all"]
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::version::VersionPolicy;
use ops_deploy::docker::{DockerHosts, Network};
use ops_deploy::{Bake, ContainerSpec, DockerHost, Hook, Migration, ProxyClient, When};
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

use super::parts::{GateConfig, Health};
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
    bake_seconds: Option<u64>,
    #[serde(default)]
    service: Vec<Service>,
    build: Option<Build>,
    migration: Option<MigrationConfig>,
    #[serde(default)]
    hook: Vec<HookConfig>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    command: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MigrationConfig {
    command: Vec<String>,
    #[serde(default)]
    rehearsal: Vec<String>,
    #[serde(default)]
    allow_incompatible: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookConfig {
    when: When,
    name: String,
    command: Vec<String>,
    #[serde(default)]
    undo: Vec<String>,
}

impl DockerConfig {
    pub fn site(self, health: &Health, gate: &GateConfig) -> Result<Site, Failure> {
        let services: Vec<_> =
            self.service.iter().map(|service| service.spec(health)).collect::<Result<_, _>>()?;
        let on = |engine: &String, state: PathBuf| {
            let policy = if self.tags { VersionPolicy::ShaOrTag } else { VersionPolicy::ShaOnly };
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
            if let Some(seconds) = self.bake_seconds {
                let lasts = Duration::from_secs(seconds);
                host = host.bake(Bake::lasting(lasts)).deadline(lasts + Duration::from_mins(5));
            }
            if let Some(build) = &self.build {
                host = host.build_images(Hook::new("build", build.command.clone()));
            }
            if let Some(migration) = &self.migration {
                host = host.migration(migration.migration());
            }
            for hook in &self.hook {
                let undo = hook.undo.clone();
                let command = Hook::new(&hook.name, hook.command.clone()).undo(undo);
                host = host.hook(hook.when, command);
            }
            Ok::<_, Failure>(host.build()?)
        };
        if let [engine] = &self.engines[..] {
            return Ok(Site::Docker(on(engine, self.state.clone())?));
        }
        let mut hosts = Vec::new();
        for (n, engine) in self.engines.iter().enumerate() {
            // A history each: the hosts may have been apart.
            let state = self.state.join(format!("engine-{}", n + 1));
            std::fs::create_dir_all(&state)
                .map_err(|error| Failure::from(error).doing(state.display().to_string()))?;
            hosts.push(on(engine, state)?);
        }
        Ok(Site::Hosts(DockerHosts::new(hosts)?))
    }
}

impl Service {
    fn spec(&self, health: &Health) -> Result<ContainerSpec, Failure> {
        let mut spec = ContainerSpec::new(&self.name, &self.image).argv(&self.command);
        match (&self.ports, &self.network) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage(format!(
                    "the service `{}` names both `ports` of the host and a `network`; give one",
                    self.name
                )));
            }
            (Some((first, last)), None) => {
                let address = Ipv4Addr::LOCALHOST.into();
                spec = spec.network(Network::Host { ports: *first..=*last, address });
            }
            (None, Some(NetworkConfig { name, port })) => {
                spec = spec.network(Network::Named { name: name.clone(), port: *port });
            }
            (None, None) => {}
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

impl MigrationConfig {
    fn migration(&self) -> Migration {
        let mut migration = Migration::new(Hook::new("migration", self.command.clone()));
        if !self.rehearsal.is_empty() {
            migration = migration.rehearsal(Hook::new("rehearsal", self.rehearsal.clone()));
        }
        if self.allow_incompatible { migration.allow_incompatible() } else { migration }
    }
}
