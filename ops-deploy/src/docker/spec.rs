//! A service that runs as a container, as data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::HttpProbe;
use ops_core::{Refusal, Version};
use url::Url;

use crate::service::{Identity, fill};
use crate::traffic::TrafficSwitch;

/// How long a service may take to end, where nothing else is said.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// Where the containers of a service listen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// On the engine's machine itself: each container gets a port of its own from these, which it
    /// learns as `{port}`. At least two, as the new runs beside the old.
    Host {
        /// The ports.
        ports: RangeInclusive<u16>,
        /// The address under which the machine is reached from here.
        address: IpAddr,
    },
    /// In a network, on this port, which is published on the engine's machine: each container gets a
    /// port of its own there from these. At least two, as the new runs beside the old.
    Published {
        /// The network's name; `None` for the engine's default one.
        network: Option<String>,
        /// The port on which the container itself listens.
        port: u16,
        /// The ports on the machine.
        ports: RangeInclusive<u16>,
        /// The address on which they are published, and under which they are reached from here.
        address: IpAddr,
    },
    /// In a network of this name, each container at an address of its own, on this port. The
    /// network must exist and be the only one of its name, and its addresses must be reachable
    /// from here and from what switches the traffic.
    Named {
        /// The network's name.
        name: String,
        /// The port.
        port: u16,
    },
}

/// A service that runs as a container, the same for every version.
///
/// `{port}`, on which it is to listen, and `{version}` are filled in, in arguments and in values of the environment. A
/// literal brace is doubled: `{{`. Secrets are files and nothing else: an environment can be read
/// by whoever may inspect a container.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// The service's name: lower-case letters, digits, `-`.
    pub name: String,
    /// The image's repository, without a tag: the version is the tag.
    pub repository: String,
    /// Arguments in place of the image's own. Default: the image's.
    pub argv: Vec<String>,
    /// What is set in its environment.
    pub environment: BTreeMap<String, String>,
    /// Files on the engine's machine that it finds, read-only, as `/run/secrets/<name>`.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Volumes by name, or absolute paths on the engine's machine, and where it finds them.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Where it listens. Default: on the host, 127.0.0.1, ports 20000 to 29999.
    pub network: Network,
    /// Where it answers for its health; `None` for what answers nobody: then it is enough that it
    /// keeps running. Default: `/health`.
    pub health_path: Option<String>,
    /// How it says which version it is. Default: the header `x-version`.
    pub identity: Identity,
    /// How long it may take to end when it is asked to. Default: 10 s.
    pub stop_grace: Duration,
    /// The signal that asks it to end. Default: the image's, or SIGTERM.
    pub stop_signal: Option<String>,
    /// The most memory that it may use, in bytes. Default: no bound.
    pub memory: Option<u64>,
    /// What moves its traffic. Default: nothing, for a service that takes none (a worker).
    pub traffic: Option<Arc<dyn TrafficSwitch>>,
    /// The address under which the public reaches it, without the health path. Default: none.
    pub public_url: Option<Url>,
}

impl ContainerSpec {
    /// A service of this name, whose images lie in this repository.
    pub fn new(name: impl Into<String>, repository: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            repository: repository.into(),
            argv: Vec::new(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: BTreeMap::new(),
            network: Network::Host { ports: 20_000..=29_999, address: Ipv4Addr::LOCALHOST.into() },
            health_path: Some("/health".to_owned()),
            identity: Identity::Header("x-version".to_owned()),
            stop_grace: STOP_GRACE,
            stop_signal: None,
            memory: None,
            traffic: None,
            public_url: None,
        }
    }

    /// Sets arguments in place of the image's own.
    pub fn argv<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Gives it a file of the engine's machine as `/run/secrets/<name>`.
    pub fn secret(mut self, name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        self.secrets.insert(name.into(), file.into());
        self
    }

    /// Gives it a volume, or a folder of the engine's machine, at this path.
    pub fn volume(mut self, source: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        self.volumes.insert(source.into(), target.into());
        self
    }

    /// Says where it listens.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Says where it answers for its health.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = Some(path.into());
        self
    }

    /// Says that it answers nobody: it is enough that it keeps running.
    pub fn silent(mut self) -> Self {
        self.health_path = None;
        self
    }

    /// Says how it tells its version.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Says how long it may take to end.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Says which signal asks it to end.
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.stop_signal = Some(signal.into());
        self
    }

    /// Bounds its memory, in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Says what moves its traffic.
    pub fn traffic(mut self, traffic: impl TrafficSwitch + 'static) -> Self {
        self.traffic = Some(Arc::new(traffic));
        self
    }

    /// Says where the public reaches it. It is asked after the switch.
    pub fn public_url(mut self, url: Url) -> Self {
        self.public_url = Some(url);
        self
    }

    /// The tag of a version's image.
    pub(super) fn tag(&self, version: &Version) -> String {
        format!("{}:{version}", self.repository)
    }

    /// Asks an address whether it answers as this version; `None` if the service answers nobody.
    pub(super) fn probe(&self, address: SocketAddr, version: &Version) -> Option<HttpProbe> {
        let path = self.health_path.as_ref()?;
        Some(self.identified(&format!("http://{address}{path}"), version))
    }

    pub(super) fn public_probe(&self, version: &Version) -> Option<HttpProbe> {
        let (url, path) = (self.public_url.as_ref()?, self.health_path.as_ref()?);
        Some(self.identified(&format!("{}{path}", url.as_str().trim_end_matches('/')), version))
    }

    fn identified(&self, url: &str, version: &Version) -> HttpProbe {
        let probe = HttpProbe::new(url);
        match &self.identity {
            Identity::Header(name) => probe.header(name, version.as_str()),
            Identity::JsonField(pointer) => probe.json_field(pointer, version.as_str()),
        }
    }

    /// Every reason why it cannot be used.
    pub(super) fn check(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let name = &self.name;
        let mut refuse = |what: String, remedy: &str| {
            refusals.push(Refusal::new(format!("the service `{name}` {what}"), remedy));
        };
        if !is_name(name) {
            refuse(
                "has a name that no container can bear".into(),
                "take lower-case letters, digits and `-`, a letter first",
            );
        }
        let repository = &self.repository;
        let after_path = repository.rsplit('/').next().unwrap_or_default();
        if repository.is_empty() || after_path.contains([':', '@']) {
            refuse(
                format!("has the image `{repository}`, which names a tag or nothing"),
                "give the repository alone: the version is the tag",
            );
        }
        for text in self.argv.iter().chain(self.environment.values()) {
            if let Err(error) = fill(text, &[("port", "1"), ("version", "v")]) {
                refuse(error, "known are {port}, {version}; a literal brace is {{");
            }
        }
        if self.health_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            refuse("has a relative health path".into(), "begin it with /");
        }
        for (secret, file) in &self.secrets {
            if !plain(secret) || !file.is_absolute() || file.to_str().is_none() {
                refuse(
                    format!("has the secret `{secret}` from `{}`", file.display()),
                    "give it a plain name, and an absolute path on the engine's machine, in UTF-8",
                );
            }
        }
        for (source, target) in &self.volumes {
            if !target.is_absolute() || source.is_empty() {
                refuse(
                    format!("has the volume `{source}` at `{}`", target.display()),
                    "give a volume's name or an absolute path, and an absolute path for it to appear at",
                );
            }
        }
        match &self.network {
            Network::Host { ports, .. } | Network::Published { ports, .. }
                if ports.end() <= ports.start() || *ports.start() == 0 =>
            {
                refuse(
                    format!("has the ports {}..={}, too few", ports.start(), ports.end()),
                    "give at least two, from 1 on",
                );
            }
            Network::Published { port: 0, .. } => {
                refuse("publishes its port 0".into(), "give the port on which it listens");
            }
            Network::Published { address, .. } if address.is_unspecified() => refuse(
                format!("is published on {address}, under which nobody is reached"),
                "give the address of one interface, such as 127.0.0.1 for a proxy there",
            ),
            Network::Named { name, port } if name.is_empty() || *port == 0 => {
                refuse("has a network without name or port".into(), "give both");
            }
            _ => {}
        }
        if let Some(url) = &self.public_url
            && !matches!(url.scheme(), "http" | "https")
        {
            refuse(
                format!("has the public address `{url}`, which is no web address"),
                "begin it with http:// or https://",
            );
        }
        refusals
    }
}

/// Whether an application or a service can be named so.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 40
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(super) fn plain(name: &str) -> bool {
    !name.starts_with('.') && !name.is_empty() && Path::new(name).components().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_all_at_once() {
        let spec = ContainerSpec::new("Web", "shop:latest")
            .argv(["{no}"])
            .health_path("health")
            .secret("../key", "relative")
            .volume("data", "relative")
            .network(Network::Named { name: String::new(), port: 0 })
            .public_url("ftp://shop".parse().unwrap());
        assert_eq!(spec.check().len(), 8, "{:#?}", spec.check());
        let everywhere = Ipv4Addr::UNSPECIFIED.into();
        for (port, ports, address) in
            [(0, 1..=2, Ipv4Addr::LOCALHOST.into()), (1, 1..=1, everywhere), (1, 1..=2, everywhere)]
        {
            let network = Network::Published { network: None, port, ports, address };
            let spec = ContainerSpec::new("web", "shop").network(network);
            assert_eq!(spec.check().len(), 1, "{:#?}", spec.check());
        }
        let fine = ContainerSpec::new("web", "localhost:5000/shop/web").secret("key", "/etc/key");
        assert!(fine.check().is_empty(), "{:?}", fine.check());
    }
}
