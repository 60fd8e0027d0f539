//! The containers of an application, as their labels tell.

use std::collections::HashMap;
use std::net::SocketAddr;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use jiff::Timestamp;
use ops_core::Version;

use super::host::DockerHost;
use crate::error::Error;
use crate::traffic::Upstream;

pub(super) const APPLICATION: &str = "ops-deploy.application";
pub(super) const ROLE: &str = "ops-deploy.role";
pub(super) const SERVICE: &str = "ops-deploy.service";
pub(super) const VERSION: &str = "ops-deploy.version";
pub(super) const VERB: &str = "ops-deploy.verb";
pub(super) const CLOSES: &str = "ops-deploy.closes-way-back";
pub(super) const OPERATION: &str = "ops-deploy.operation";
pub(super) const EPOCH: &str = "ops-deploy.epoch";
pub(super) const IMAGE: &str = "ops-deploy.image";
pub(super) const ADDRESS: &str = "ops-deploy.address";
pub(super) const PORT: &str = "ops-deploy.port";

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContainerState {
    /// It was never started.
    Created,
    /// It runs, or the engine is about to start it again.
    Running,
    /// It has ended.
    Stopped,
}

/// One container of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Container {
    /// Its name: application, service, version, and the operation that made it.
    pub name: String,
    /// The service that it runs.
    pub service: String,
    /// Which version it runs.
    pub version: Version,
    /// The operation that made it.
    pub operation: String,
    /// How many operations had made containers before.
    pub epoch: u64,
    /// The image's id.
    pub image: String,
    /// Where it listens, as far as that is known: one that is stopped may have no address.
    pub address: Option<SocketAddr>,
    /// What it does.
    pub state: ContainerState,
    /// When it was made.
    pub created: Timestamp,
    /// The migration that came with it and after which no earlier version can run.
    pub closes_way_back: Option<String>,
}

impl Container {
    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.state == ContainerState::Running
    }

    pub(super) fn upstream(&self) -> Option<Upstream> {
        Some(Upstream { address: self.address?, instance: self.name.clone() })
    }

    /// The container of these labels; the error says what is wrong with them.
    fn read(found: &ContainerSummary) -> Result<Self, String> {
        let none = HashMap::new();
        let labels = found.labels.as_ref().unwrap_or(&none);
        let name = name_of(found);
        let get = |label: &str| {
            labels.get(label).cloned().ok_or_else(|| format!("`{name}` has no label `{label}`"))
        };
        let unread = |label: &str| format!("the label `{label}` of `{name}` cannot be read");
        let state = match found.state {
            Some(ContainerSummaryStateEnum::CREATED) => ContainerState::Created,
            Some(
                ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::RESTARTING
                | ContainerSummaryStateEnum::PAUSED
                | ContainerSummaryStateEnum::STOPPING,
            ) => ContainerState::Running,
            _ => ContainerState::Stopped,
        };
        let address = if let Some(text) = labels.get(ADDRESS) {
            Some(text.parse().map_err(|_| unread(ADDRESS))?)
        } else {
            let port: u16 = get(PORT)?.parse().map_err(|_| unread(PORT))?;
            let networks = found.network_settings.as_ref().and_then(|all| all.networks.as_ref());
            let ip = networks
                .and_then(|all| all.values().find_map(|it| it.ip_address.clone()))
                .and_then(|text| text.parse().ok());
            ip.map(|ip| SocketAddr::new(ip, port))
        };
        Ok(Self {
            service: get(SERVICE)?,
            version: get(VERSION)?.parse().map_err(|_| unread(VERSION))?,
            operation: get(OPERATION)?,
            epoch: get(EPOCH)?.parse().map_err(|_| unread(EPOCH))?,
            image: get(IMAGE)?,
            address,
            state,
            created: Timestamp::from_second(found.created.unwrap_or_default()).unwrap_or_default(),
            closes_way_back: labels.get(CLOSES).cloned(),
            name,
        })
    }
}

pub(super) fn name_of(found: &ContainerSummary) -> String {
    let first = found.names.iter().flatten().next();
    first.map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default()
}

/// What carries the application's label.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub containers: Vec<Container>,
    /// What cannot be read, and why.
    pub unreadable: Vec<String>,
}

impl DockerHost {
    /// The containers of the application, the oldest first.
    pub(super) async fn containers(&self) -> Result<Found, Error> {
        self.containers_labelled(&format!("{APPLICATION}={}", self.0.application)).await
    }

    /// The containers with this label, the oldest first.
    pub(super) async fn containers_labelled(&self, label: &str) -> Result<Found, Error> {
        let mut all = Found::default();
        for found in self.0.engine.containers(label).await? {
            if found.labels.as_ref().is_some_and(|labels| labels.contains_key(ROLE)) {
                continue;
            }
            match Container::read(&found) {
                Ok(container) => all.containers.push(container),
                Err(why) => all.unreadable.push(why),
            }
        }
        all.containers.sort_by(|a, b| (a.epoch, &a.name).cmp(&(b.epoch, &b.name)));
        Ok(all)
    }
}
