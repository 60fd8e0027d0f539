//! The configuration of a site.
//!
//! ```toml
//! root = "/srv/shop"                          # holds `releases`, `current`, the history
//! command = ["bin/shop", "--port", "{port}"]  # also {version} and {release}
//! proxy = "/srv/shop/proxy"                   # the state directory of its ops-proxy
//! public_url = "http://127.0.0.1:8080"        # asked after the switch
//! required_files = ["bin/shop"]               # without them a release is not complete
//! keep = 3                                    # releases besides the current and the previous
//!
//! [health]
//! path = "/health"
//! json_field = "/version"                     # or: header = "x-version"
//!
//! [gate]
//! consecutive = 3                             # good answers in a row
//! deadline_seconds = 60
//!
//! [environment]                               # of the service
//! SHOP_DATABASE = "/srv/shop/data/shop.db"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_deploy::{Gate, Identity, ProxyClient, ReleaseDirectory, ServiceSpec};
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    root: PathBuf,
    command: Vec<String>,
    proxy: Option<PathBuf>,
    public_url: Option<Url>,
    #[serde(default)]
    required_files: Vec<PathBuf>,
    keep: Option<usize>,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    gate: GateConfig,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Health {
    path: Option<String>,
    json_field: Option<String>,
    header: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateConfig {
    consecutive: Option<u32>,
    deadline_seconds: Option<u64>,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("`{name}` cannot be read: {error}")))?;
        toml::from_str(&text).map_err(|error| Failure::usage(format!("`{name}`: {error}")))
    }

    pub fn site(self) -> Result<ReleaseDirectory, Failure> {
        let mut service = ServiceSpec::new(self.command);
        for (name, value) in self.environment {
            service = service.env(name, value);
        }
        if let Some(path) = self.health.path {
            service = service.health_path(path);
        }
        service = match (self.health.json_field, self.health.header) {
            (Some(_), Some(_)) => {
                let why = "[health] names both `json_field` and `header`; one says the version";
                return Err(Failure::usage(why));
            }
            (Some(field), None) => service.identity(Identity::JsonField(field)),
            (None, Some(header)) => service.identity(Identity::Header(header)),
            (None, None) => service,
        };
        let mut gate = Gate::default();
        gate.consecutive = self.gate.consecutive.unwrap_or(gate.consecutive);
        if let Some(seconds) = self.gate.deadline_seconds {
            gate.deadline = Duration::from_secs(seconds);
        }
        let mut site = ReleaseDirectory::builder(self.root, service)
            .required_files(self.required_files)
            .gate(gate);
        if let Some(proxy) = self.proxy {
            site = site.traffic(ProxyClient::new(proxy));
        }
        if let Some(url) = self.public_url {
            site = site.public_url(url);
        }
        if let Some(releases) = self.keep {
            site = site.keep(releases);
        }
        Ok(site.build()?)
    }
}
