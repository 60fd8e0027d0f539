//! The configuration of a site: one target a file.
//!
//! Releases in a folder of this machine need no table of their own:
//!
//! ```toml
//! root = "/srv/shop"                          # holds `releases`, `current`, the history
//! command = ["bin/shop", "--port", "{port}"]  # also {version} and {release}
//! proxy = "/srv/shop/proxy"                   # the state directory of its ops-proxy
//! public_url = "http://127.0.0.1:8080"        # asked after the switch
//! required_files = ["bin/shop"]               # without them a release is not complete
//! keep = 3                                    # releases besides the current and the previous
//! keep_previous_warm = false                  # true: it runs on, and a rollback need not start it
//! deadline_seconds = 300                      # for an operation until its commit
//!
//! [environment]                               # of the service
//! SHOP_DATABASE = "/srv/shop/data/shop.db"
//! ```
//!
//! The other targets are `[docker]` (`docker.rs`), `[swarm]` (`swarm.rs`) and `[provider]`
//! (`provider.rs`). Any of them takes:
//!
//! ```toml
//! [health]                                    # of services that say nothing else
//! path = "/health"
//! json_field = "/version"                     # or: header = "x-version"
//!
//! [gate]
//! consecutive = 3                             # good answers in a row
//! deadline_seconds = 60
//! ```
//!
//! and `[build]`, `[migration]`, `[[hook]]`, `[bake]` and `[preflight]` (`stages.rs`).

#[cfg(feature = "docker")]
mod docker;
mod parts;
mod places;
mod provider;
mod releases;
mod stages;
#[cfg(feature = "docker")]
mod swarm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ops_core::Refusal;
use ops_examples::bars::Bars;
use ops_examples::{Code, Failure};
use serde::Deserialize;
use url::Url;

use crate::site::Site;
pub use parts::Secrets;
use parts::{GateConfig, Health};
use places::Places;
use stages::{BakeConfig, BuildConfig, HookConfig, MigrationConfig, PreflightConfig, StagesConfig};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    root: Option<PathBuf>,
    command: Option<Vec<String>>,
    proxy: Option<PathBuf>,
    public_url: Option<Url>,
    #[serde(default)]
    required_files: Vec<PathBuf>,
    keep: Option<usize>,
    #[serde(default)]
    keep_previous_warm: bool,
    deadline_seconds: Option<u64>,
    build: Option<BuildConfig>,
    migration: Option<MigrationConfig>,
    #[serde(default)]
    hook: Vec<HookConfig>,
    bake: Option<BakeConfig>,
    preflight: Option<PreflightConfig>,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    gate: GateConfig,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[cfg(feature = "docker")]
    docker: Option<docker::DockerConfig>,
    #[cfg(feature = "docker")]
    swarm: Option<swarm::SwarmConfig>,
    #[cfg(not(feature = "docker"))]
    docker: Option<toml::Table>,
    #[cfg(not(feature = "docker"))]
    swarm: Option<toml::Table>,
    provider: Option<provider::ProviderConfig>,
}

/// The site of a file; what its commands print is shown here. What makes no sense is told with line
/// and key.
pub fn site(path: &Path, bars: Option<&Bars>, secrets: Secrets) -> Result<Site, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("`{name}` cannot be read: {error}")))?;
    let config: Config =
        toml::from_str(&text).map_err(|error| places::unreadable(&name, &text, &error))?;
    config.site(bars, secrets).map_err(|failure| match failure.code() {
        Code::Usage => Places::of(&text).refuse(&name, failure),
        _ => failure,
    })
}

impl Config {
    fn site(mut self, bars: Option<&Bars>, secrets: Secrets) -> Result<Site, Failure> {
        let stages = StagesConfig {
            build: self.build.take(),
            migration: self.migration.take(),
            hooks: std::mem::take(&mut self.hook),
            bake: self.bake.take(),
            preflight: self.preflight.take(),
        };
        let stages = stages.stages(bars, secrets)?;
        let named = [
            ("`[docker]`", self.docker.is_some()),
            ("`[swarm]`", self.swarm.is_some()),
            ("`[provider]`", self.provider.is_some()),
            ("releases with a `root`", self.root.is_some()),
        ];
        let named: Vec<_> = named.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        if let [one, other, ..] = named[..] {
            let why = format!("the configuration names {one} and {other}; give each its own file");
            return Err(Failure::usage(why));
        }
        let target = named.first().copied().unwrap_or_default();
        if named.is_empty() || target.starts_with("releases") {
            return self.releases(&stages);
        }
        let stray = [
            ("command", self.command.is_some()),
            ("proxy", self.proxy.is_some()),
            ("public_url", self.public_url.is_some()),
            ("required_files", !self.required_files.is_empty()),
            ("keep", self.keep.is_some()),
            ("keep_previous_warm", self.keep_previous_warm),
            ("deadline_seconds", self.deadline_seconds.is_some()),
            ("[environment]", !self.environment.is_empty()),
        ];
        let stray = stray.into_iter().filter(|(_, is)| *is).map(|(name, _)| {
            let plain = target.trim_matches('`');
            Refusal::new(
                format!("`{name}` stands outside of {plain}"),
                "put it inside, or give releases a `root`",
            )
        });
        let stray: Vec<_> = stray.collect();
        if !stray.is_empty() {
            return Err(Failure::usage("the configuration makes no sense").with_reasons(stray));
        }
        if let Some(provider) = self.provider {
            return provider.site(&self.health, &self.gate, &stages, secrets);
        }
        #[cfg(feature = "docker")]
        if let Some(docker) = self.docker {
            return docker.site(&self.health, &self.gate, &stages);
        }
        #[cfg(feature = "docker")]
        if let Some(swarm) = self.swarm {
            return swarm.site(&self.health, &self.gate, &stages);
        }
        Err(Failure::usage(format!(
            "this deployer was built without {target}; build it with `--features docker`"
        )))
    }
}
