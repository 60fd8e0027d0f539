//! What a Swarm must have before an operation.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigPublishModeEnum, EndpointSpecModeEnum, Service,
};
use ops_core::{Refusal, StepContext, StepError, Version};

use super::{Swarm, SwarmService};
use crate::error::Error;
use crate::preflight::has_ip_vs;

fn ports_of(service: &Service) -> Vec<EndpointPortConfig> {
    let endpoint = service.spec.as_ref().and_then(|spec| spec.endpoint_spec.clone());
    endpoint.and_then(|endpoint| endpoint.ports).unwrap_or_default()
}

fn on_nodes(ports: &[EndpointPortConfig], host_mode_only: bool) -> Vec<u16> {
    let host = Some(EndpointPortConfigPublishModeEnum::HOST);
    let ports = ports.iter().filter(|port| !host_mode_only || port.publish_mode == host);
    ports.filter_map(|port| u16::try_from(port.published_port?).ok()).collect()
}

/// Whether it balances by a virtual address: in a network of its own, or on an ingress port.
fn is_balanced(service: &Service, overlays: &BTreeSet<String>) -> bool {
    let Some(spec) = &service.spec else { return false };
    let endpoint = spec.endpoint_spec.clone().unwrap_or_default();
    let ports = endpoint.ports.unwrap_or_default();
    let ingress = on_nodes(&ports, false).len() > on_nodes(&ports, true).len();
    let networks = spec.task_template.as_ref().and_then(|task| task.networks.clone());
    let mut targets = networks.into_iter().flatten().filter_map(|network| network.target);
    let own = targets.any(|target| overlays.contains(&target));
    endpoint.mode != Some(EndpointSpecModeEnum::DNSRR) && own || ingress
}

impl Swarm {
    pub(super) async fn surveyed(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let Some(preflight) = &self.0.stages.preflight else { return Ok(Vec::new()) };
        let mut findings = self.0.engine.survey(preflight, 0, version, cx).await?;
        let all = self.0.engine.swarm_services().await?;
        for service in &self.0.services {
            findings.extend(self.ports(service, &all).await?);
            let read = service.clone();
            let look = cx.blocking(move |_| Ok::<_, Error>(read.unreadable_secrets()));
            findings.extend(look.await?);
        }
        Ok(findings)
    }

    async fn ports(&self, settings: &SwarmService, all: &[Service]) -> Result<Vec<Refusal>, Error> {
        let name = settings.name.as_str();
        let named = |service: &Service| service.spec.as_ref().and_then(|spec| spec.name.clone());
        let (ours, others): (Vec<_>, Vec<_>) =
            all.iter().partition(|service| named(service).as_deref() == Some(name));
        let Some(ours) = ours.first() else { return Ok(Vec::new()) };
        let mut findings = Vec::new();
        let mut find = |why: String, remedy: &str| findings.push(Refusal::new(why, remedy));
        let published = ports_of(ours);
        let (has, anew) = (on_nodes(&published, true), !settings.ports.is_empty());
        let wanted: Vec<u16> =
            if anew { settings.ports.iter().map(|(port, _)| *port).collect() } else { has.clone() };
        for port in &wanted {
            let holds = |other: &&&Service| on_nodes(&ports_of(other), false).contains(port);
            if let Some(other) = others.iter().find(holds) {
                find(
                    format!(
                        "port {port}, which `{name}` is to publish, is published by `{}`",
                        named(other).unwrap_or_default()
                    ),
                    "give one of them another port",
                );
            } else if self.0.engine.is_local()
                && !on_nodes(&published, false).contains(port)
                && let Err(error) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port))
            {
                find(
                    format!("port {port}, which `{name}` is to publish, is not free here: {error}"),
                    "end the program that listens on it, or publish another port",
                );
            }
        }
        let mode = ours.spec.as_ref().and_then(|spec| spec.mode.as_ref());
        let replicas = mode.and_then(|mode| mode.replicated.as_ref()).and_then(|it| it.replicas);
        if !has.is_empty() && has.iter().any(|port| wanted.contains(port)) && !settings.stop_first {
            let nodes = self.0.engine.usable_nodes().await?;
            let enough = replicas
                .and_then(|replicas| usize::try_from(replicas).ok())
                .is_some_and(|replicas| replicas < nodes);
            if !enough {
                find(
                    format!(
                        "`{name}` has its ports on each of the {nodes} nodes: no new task can start beside the old ones"
                    ),
                    "add a node; or put a proxy before it; or say `stop_first`, and nobody \
                     answers in between",
                );
            }
        }
        // What is published in host mode is resolved by dnsrr, and balances nothing.
        let overlays = self.0.engine.overlays().await?;
        if !anew
            && is_balanced(ours, &overlays)
            && self.0.engine.is_local()
            && has_ip_vs(Path::new("/")) == Some(false)
        {
            find(
                format!("`{name}` is balanced by the kernel's IP_VS, which this one lacks"),
                "load it (modprobe ip_vs), or let the service publish in host mode with dnsrr",
            );
        }
        Ok(findings)
    }
}
