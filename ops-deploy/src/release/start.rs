//! Starts the new instance beside the old one, and stops it again.

use std::net::{SocketAddr, TcpListener};

use ops_core::probe::observe;
use ops_core::{StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::directory::ReleaseDirectory;
use super::instance;
use crate::error::{Error, ErrorKind};
use crate::service::Liveness;
use crate::traffic::Upstream;

/// Which instance the operation brings into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placement {
    pub instance: String,
    pub address: SocketAddr,
    /// It ran already, and runs on when the operation goes back.
    pub warm: bool,
}

impl Placement {
    pub(super) fn upstream(&self) -> Upstream {
        Upstream { address: self.address, instance: self.instance.clone() }
    }

    fn key(version: &Version) -> String {
        format!("instance of {version}")
    }

    /// What was placed; `None` if nothing was yet.
    pub(super) fn noted(version: &Version, cx: &StepContext) -> Result<Option<Self>, StepError> {
        cx.noted(&Self::key(version))
    }

    /// What was placed.
    pub(super) fn known(version: &Version, cx: &StepContext) -> Result<Self, StepError> {
        Self::noted(version, cx)?.ok_or_else(|| {
            StepError::permanent(format!("no instance of {version} was started"))
                .remedy("start it before, in the same operation")
        })
    }
}

impl ReleaseDirectory {
    pub(super) async fn start(&self, version: &Version, cx: &StepContext) -> Result<(), StepError> {
        let placement = cx.observe(&Placement::key(version), self.place(version, cx)).await?;
        if placement.warm {
            return Ok(());
        }
        let (site, version) = (self.clone(), version.clone());
        cx.blocking(move |_| {
            let folder = site.instance_path(&placement.instance);
            ops_core::fs::create_dir_durable(&folder)?;
            ops_core::fault::point("release: instance folder made");
            instance::record(&folder, &version, placement.address)?;
            ops_core::fault::point("release: instance recorded");
            let release = site.release_path(&version);
            let launch = site.0.service.launch(&version, &release, &folder, placement.address)?;
            site.0.manager.start(&launch)
        })
        .await
    }

    pub(super) async fn unstart(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(placement) = Placement::noted(version, cx)?.filter(|placement| !placement.warm)
        else {
            return Ok(());
        };
        // It may have had the traffic until a moment ago.
        self.drain(&placement.upstream(), cx).await?;
        let site = self.clone();
        cx.blocking(move |cancel| site.stop_and_forget(&placement.instance, cancel)).await
    }

    pub(super) fn stop_and_forget(
        &self,
        instance: &str,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<(), Error> {
        let folder = self.instance_path(instance);
        self.0.manager.stop(&folder, self.0.service.stop_grace, cancel)?;
        ops_core::fault::point("release: instance stopped");
        Ok(ops_core::fs::remove_dir_durable(&folder)?)
    }

    /// A warm instance of the version if one answers as it, else a place for a new one.
    async fn place(&self, version: &Version, cx: &StepContext) -> Result<Placement, StepError> {
        let (site, wanted) = (self.clone(), version.clone());
        let instances = cx.blocking(move |_| site.instances()).await?;
        let in_service = match &self.0.traffic {
            Some(traffic) => traffic.current().await?.upstream,
            None => None,
        };
        let service = &self.0.service;
        for warm in instances.iter().rev().filter(|found| found.version == wanted) {
            let is_leader = matches!(warm.liveness, Liveness::Running(Some(_)));
            if !is_leader || in_service.as_ref() == Some(&warm.upstream()) {
                continue;
            }
            let url = service.health_url(warm.address);
            let timeout = self.0.gate.timeout;
            let probe = service.probe(&url, version);
            if cx.until_cancelled(observe(&probe, timeout)).await?.health.is_healthy() {
                let (instance, address) = (warm.name.clone(), warm.address);
                return Ok(Placement { instance, address, warm: true });
            }
        }
        let id = cx.operation().to_string();
        let taken: Vec<u16> = instances
            .iter()
            .filter(|instance| instance.runs())
            .map(|instance| instance.address.port())
            .collect();
        let site = self.clone();
        let seed = id.clone();
        let address = cx.blocking(move |_| site.free_address(&taken, &seed)).await?;
        Ok(Placement { instance: format!("{wanted}-{id}"), address, warm: false })
    }

    /// An address on which nobody listens now. Somebody may a moment later: then the new instance
    /// cannot listen, and the gate sees that it is not it who answers.
    fn free_address(&self, taken: &[u16], seed: &str) -> Result<SocketAddr, Error> {
        let service = &self.0.service;
        let (first, last) = (u32::from(*service.ports.start()), u32::from(*service.ports.end()));
        let count = last - first + 1;
        // Not always the first free one: an old client may still ask there.
        let offset = seed
            .bytes()
            .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
            % count;
        (0..count)
            .filter_map(|n| u16::try_from(first + (offset + n) % count).ok())
            .filter(|port| !taken.contains(port))
            .map(|port| SocketAddr::new(service.host, port))
            .find(|address| TcpListener::bind(address).is_ok())
            .ok_or_else(|| {
                Error::new(ErrorKind::Service, format!("no port from {first} to {last} is free"))
                    .with("host", service.host)
                    .remedy("give the service a wider range of ports")
            })
    }
}
