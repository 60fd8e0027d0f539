//! The configuration of a proxy.
//!
//! ```toml
//! listen = "127.0.0.1:8080"
//! state_dir = "/srv/shop/proxy"
//! max_connections = 4096      # more wait to be accepted
//! client_timeout = 75         # seconds, as all below: a client sends nothing, or takes nothing
//! connect_timeout = 5         # until the service takes a connection
//! response_timeout = 60       # until it begins its answer
//! shutdown_grace = 30         # for what is under way when the proxy ends
//! handover_grace = 600        # for what is under way when another process has taken its place
//! tunnel_idle = 3600          # a WebSocket is silent
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_deploy::ProxyConfig;
use ops_examples::Failure;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    listen: Option<SocketAddr>,
    state_dir: Option<PathBuf>,
    max_connections: Option<usize>,
    client_timeout: Option<u64>,
    connect_timeout: Option<u64>,
    response_timeout: Option<u64>,
    shutdown_grace: Option<u64>,
    handover_grace: Option<u64>,
    tunnel_idle: Option<u64>,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("`{name}` cannot be read: {error}")))?;
        toml::from_str(&text).map_err(|error| Failure::usage(format!("`{name}`: {error}")))
    }

    /// The configuration, of which the command line has said these.
    pub fn proxy(
        self,
        listen: Option<SocketAddr>,
        state_dir: Option<PathBuf>,
    ) -> Result<ProxyConfig, Failure> {
        let state_dir = state_dir.or(self.state_dir).ok_or_else(|| {
            Failure::usage("give --state-dir, or `state_dir` in the file of --config")
        })?;
        let listen = listen.or(self.listen).unwrap_or(([127, 0, 0, 1], 8080).into());
        let mut config = ProxyConfig::new(listen, state_dir);
        if let Some(most) = self.max_connections {
            config.max_connections = most;
        }
        for (seconds, time) in [
            (self.client_timeout, &mut config.client_timeout),
            (self.connect_timeout, &mut config.connect_timeout),
            (self.response_timeout, &mut config.response_timeout),
            (self.shutdown_grace, &mut config.shutdown_grace),
            (self.handover_grace, &mut config.handover_grace),
            (self.tunnel_idle, &mut config.tunnel_idle),
        ] {
            if let Some(seconds) = seconds {
                *time = Duration::from_secs(seconds);
            }
        }
        Ok(config)
    }
}
