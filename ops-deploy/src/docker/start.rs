//! Starts the new containers beside the old ones, and stops them again.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use ops_core::probe::observe;
use ops_core::{OperationId, Refusal, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::containers::{
    ADDRESS, APPLICATION, CLOSES, Container, EPOCH, IMAGE, OPERATION, PORT, SERVICE, VERSION,
};
use super::host::DockerHost;
use super::spec::{ContainerSpec, Network, STOP_GRACE};
use crate::error::{Error, ErrorKind};
use crate::history::Verb;
use crate::service::fill;
use crate::speed::From;
use crate::switching::drain;
use crate::traffic::Upstream;

/// How a container comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// It is made.
    New,
    /// It was kept, stopped, and is stopped again when the operation goes back.
    Stopped,
    /// It ran already, and runs on when the operation goes back.
    Warm,
}

/// Which container the operation brings into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placement {
    pub container: String,
    how: How,
    port: u16,
    epoch: u64,
}

fn key(service: &str, version: &Version) -> String {
    format!("container of {service} {version}")
}

fn address_key(service: &str, version: &Version) -> String {
    format!("address of {service} {version}")
}

impl Placement {
    /// What the container still had.
    pub(super) fn from(&self) -> From {
        match self.how {
            How::New => From::Cold,
            How::Stopped => From::Stopped,
            How::Warm => From::Warm,
        }
    }

    pub(super) fn noted(
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Option<Self>, StepError> {
        cx.noted(&key(service, version))
    }

    /// What was started, and where it listens; `None` if nothing was yet.
    pub(super) fn upstream(
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Option<Upstream>, StepError> {
        let Some(placement) = Self::noted(service, version, cx)? else { return Ok(None) };
        let address: Option<SocketAddr> = cx.noted(&address_key(service, version))?;
        Ok(address.map(|address| Upstream { address, instance: placement.container }))
    }

    /// What was started, and where it listens.
    pub(super) fn known(
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Upstream, StepError> {
        Self::upstream(service, version, cx)?.ok_or_else(|| {
            StepError::permanent(format!("no container of {service} {version} was started"))
                .remedy("start it before, in the same operation")
        })
    }
}

fn no_port(spec: &ContainerSpec, ports: &RangeInclusive<u16>) -> String {
    let (first, last) = (ports.start(), ports.end());
    format!("no port from {first} to {last} is free for another container of `{}`", spec.name)
}

/// Nobody is known to listen there, nor found on this machine. Somebody may be a moment later: then
/// the new container cannot listen, and the gate sees that it is not it who answers.
fn is_free(address: SocketAddr, taken: &[SocketAddr], here: bool) -> bool {
    !taken.iter().any(|other| other.port() == address.port())
        && (!here || TcpListener::bind(address).is_ok())
}

impl DockerHost {
    pub(super) async fn start(
        &self,
        service: &str,
        version: &Version,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let spec = self.service(service).ok_or_else(|| {
            StepError::permanent(format!("there is no service `{service}` any more"))
                .remedy("plan again")
        })?;
        self.hold_lock(cx).await?;
        let image = Self::pinned(version, cx)?.remove(service).unwrap_or_default();
        let image = image.as_str();
        let place = self.place(spec, version, image, verb, cx);
        let placement = cx.observe(&key(service, version), place).await?;
        let name = &placement.container;
        if placement.how == How::New {
            let body = self.body(spec, version, image, &placement, cx)?;
            cx.fault_point("docker: container about to be made");
            self.0.engine.create(name, body).await?;
            cx.fault_point("docker: container made");
        }
        if placement.how != How::Warm {
            self.0.engine.start(name).await?;
            cx.fault_point("docker: container started");
        }
        cx.observe(&address_key(service, version), self.address_of(name)).await?;
        Ok(())
    }

    /// A container on a network has its address only while it runs.
    async fn address_of(&self, name: &str) -> Result<SocketAddr, StepError> {
        let all = self.containers().await?.containers;
        let found = all.into_iter().find(|container| container.name == *name);
        if let Some(address) = found.and_then(|container| container.address) {
            return Ok(address);
        }
        let ended = format!("the container `{name}` has no address: it has ended");
        let error = Error::new(ErrorKind::Service, ended);
        Err(match self.0.engine.log_tail(name).await {
            Some(tail) => error.with("log", tail).into(),
            None => error.into(),
        })
    }

    pub(super) async fn unstart(
        &self,
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(placement) = Placement::noted(service, version, cx)? else { return Ok(()) };
        if placement.how == How::Warm {
            return Ok(());
        }
        let spec = self.service(service);
        let upstream = Placement::upstream(service, version, cx)?;
        if placement.how == How::New && upstream.is_none() {
            let image = Self::pinned(version, cx)?.remove(service).unwrap_or_default();
            self.0.engine.settle(&placement.container, &image).await?;
        }
        // It may have had the traffic until a moment ago.
        if let Some(upstream) = upstream
            && let Some(traffic) = spec.and_then(|spec| spec.traffic.as_ref())
        {
            drain(&**traffic, &upstream, self.0.drain, cx).await?;
        }
        let grace = spec.map_or(STOP_GRACE, |spec| spec.stop_grace);
        self.0.engine.stop(&placement.container, grace).await?;
        cx.fault_point("docker: container stopped");
        if placement.how == How::New {
            self.0.engine.remove(&placement.container).await?;
        }
        Ok(())
    }

    /// A container of the version that was kept, for a rollback; else a place for a new one.
    async fn place(
        &self,
        spec: &ContainerSpec,
        version: &Version,
        image: &str,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<Placement, StepError> {
        let in_traffic = match &spec.traffic {
            Some(traffic) => traffic.current().await?.upstream.map(|it| it.instance),
            None => None,
        };
        let everything = self.everybody().await?;
        let ours = self.containers().await?.containers;
        let kept = ours.iter().rev().filter(|it| {
            verb == Verb::Rollback
                && it.service == spec.name
                && it.version == *version
                && it.image == image
                && Some(&it.name) != in_traffic.as_ref()
        });
        let how = |it: &Container, how| Placement {
            container: it.name.clone(),
            how,
            port: it.address.map(|address| address.port()).unwrap_or_default(),
            epoch: it.epoch,
        };
        let kept: Vec<_> = kept.collect();
        for warm in kept.iter().filter(|it| it.runs() && spec.traffic.is_some()) {
            let Some(probe) = warm.address.and_then(|address| spec.probe(address, version)) else {
                continue;
            };
            let seen = cx.until_cancelled(observe(&probe, self.0.gate.timeout)).await?;
            if seen.health.is_healthy() {
                return Ok(how(warm, How::Warm));
            }
        }
        let taken: Vec<SocketAddr> =
            everything.iter().filter(|it| it.runs()).filter_map(|it| it.address).collect();
        let stopped = kept.iter().find(|it| {
            let is_stopped = it.state == super::ContainerState::Stopped;
            is_stopped
                && it
                    .address
                    .is_none_or(|address| is_free(address, &taken, self.0.engine.is_local()))
        });
        if let Some(stopped) = stopped {
            return Ok(how(stopped, How::Stopped));
        }
        let id = cx.operation().to_string();
        let port = match &spec.network {
            Network::Named { port, .. } => *port,
            Network::Host { ports, .. } | Network::Published { ports, .. } => {
                // Not always the first free one: an old client may still ask there, and another
                // application's deployer may look for one now.
                let seed = id.bytes().chain(spec.name.bytes());
                let seed = seed.fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
                self.free_port(spec, seed, taken)
                    .await?
                    .ok_or_else(|| Error::new(ErrorKind::Service, no_port(spec, ports)))?
            }
        };
        let epoch = everything.iter().map(|it| it.epoch).max().unwrap_or_default() + 1;
        let container = format!("{}{version}-{id}", self.prefix(&spec.name));
        Ok(Placement { container, how: How::New, port, epoch })
    }

    fn prefix(&self, service: &str) -> String {
        format!("{}-{service}-", self.0.application)
    }

    /// Whether a container has a name such as this application gives.
    pub(super) fn has_made(&self, service: &str, container: &str) -> bool {
        let rest = container.strip_prefix(&self.prefix(service));
        let rest = rest.and_then(|rest| rest.rsplit_once('-'));
        rest.is_some_and(|(version, id)| {
            version.parse::<Version>().is_ok() && id.parse::<OperationId>().is_ok()
        })
    }

    /// A port of the machine for another container of this service, from that of the seed on.
    async fn free_port(
        &self,
        spec: &ContainerSpec,
        seed: u32,
        taken: Vec<SocketAddr>,
    ) -> Result<Option<u16>, Error> {
        let (Network::Host { ports, address } | Network::Published { ports, address, .. }) =
            &spec.network
        else {
            return Ok(None);
        };
        let (first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
        let (count, address, here) = (last - first + 1, *address, self.0.engine.is_local());
        let look = move || {
            (0..count)
                .filter_map(|n| u16::try_from(first + (seed % count + n) % count).ok())
                .find(|port| is_free(SocketAddr::new(address, *port), &taken, here))
        };
        // There may be thousands that are taken.
        tokio::task::spawn_blocking(look).await.map_err(|join| {
            Error::new(ErrorKind::Io, "looking for a port panicked").caused_by(join)
        })
    }

    /// Why another container of this service would find no port, if it would not.
    pub(super) async fn lacks_port(&self, spec: &ContainerSpec) -> Result<Option<Refusal>, Error> {
        let (Network::Host { ports, .. } | Network::Published { ports, .. }) = &spec.network else {
            return Ok(None);
        };
        let all = self.everybody().await?;
        let taken: Vec<_> = all.iter().filter(|it| it.runs()).filter_map(|it| it.address).collect();
        let free = self.free_port(spec, 0, taken).await?;
        let remedy = "end what listens there, or give the service a wider range of ports";
        Ok(free.is_none().then(|| Refusal::new(no_port(spec, ports), remedy)))
    }

    /// The containers of all applications on the engine.
    async fn everybody(&self) -> Result<Vec<Container>, Error> {
        self.containers_labelled(APPLICATION).await.map(|found| found.containers)
    }

    fn body(
        &self,
        spec: &ContainerSpec,
        version: &Version,
        image: &str,
        placement: &Placement,
        cx: &StepContext,
    ) -> Result<ContainerCreateBody, StepError> {
        let port = placement.port.to_string();
        let listens = match &spec.network {
            Network::Published { port, .. } => port.to_string(),
            _ => port.clone(),
        };
        let values = [("port", listens.as_str()), ("version", version.as_str())];
        let fill = |text: &String| {
            fill(text, &values).map_err(|error| Error::new(ErrorKind::InvalidConfig, error))
        };
        let argv = spec.argv.iter().map(fill).collect::<Result<Vec<_>, _>>()?;
        let mut environment = Vec::new();
        for (name, value) in &spec.environment {
            environment.push(format!("{name}={}", fill(value)?));
        }
        let mut labels = HashMap::from(
            [
                (APPLICATION, self.0.application.clone()),
                (SERVICE, spec.name.clone()),
                (VERSION, version.to_string()),
                (OPERATION, cx.operation().to_string()),
                (EPOCH, placement.epoch.to_string()),
                (IMAGE, image.to_owned()),
                (PORT, port.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let closes = self.0.stages.closes_way_back(version, cx)?;
        labels.extend(closes.map(|migration| (CLOSES.to_owned(), migration)));
        if let Network::Host { address, .. } | Network::Published { address, .. } = &spec.network {
            let address = SocketAddr::new(*address, placement.port);
            labels.insert(ADDRESS.to_owned(), address.to_string());
        }
        let (network, published) = match &spec.network {
            Network::Host { .. } => ("host".to_owned(), None),
            Network::Named { name, .. } => (name.clone(), None),
            Network::Published { network, address, .. } => {
                let on = PortBinding {
                    host_ip: Some(address.to_string()),
                    host_port: Some(placement.port.to_string()),
                };
                let network = network.clone().unwrap_or_else(|| "default".to_owned());
                (network, Some((format!("{listens}/tcp"), on)))
            }
        };
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned);
        let secrets = spec.secrets.iter().map(|(name, file)| Mount {
            typ: Some(MountType::BIND),
            source: path(file),
            target: Some(format!("/run/secrets/{name}")),
            read_only: Some(true),
            ..Mount::default()
        });
        let volumes = spec.volumes.iter().map(|(source, target)| Mount {
            typ: Some(if source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }),
            source: Some(source.clone()),
            target: path(target),
            ..Mount::default()
        });
        Ok(ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: (!argv.is_empty()).then_some(argv),
            env: Some(environment),
            labels: Some(labels),
            stop_signal: spec.stop_signal.clone(),
            exposed_ports: published.as_ref().map(|(port, _)| vec![port.clone()]),
            host_config: Some(HostConfig {
                network_mode: Some(network),
                port_bindings: published.map(|(port, on)| HashMap::from([(port, Some(vec![on]))])),
                mounts: Some(secrets.chain(volumes).collect()),
                memory: spec.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
                // It comes back with the machine, unless a deployer has stopped it.
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        })
    }
}
