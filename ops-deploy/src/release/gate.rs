//! Whether an instance is good enough: it is the right version, several times in a row, and what
//! guards the gate is well in the same rounds.

use std::future::Future;

use futures::FutureExt as _;
use ops_core::probe::{AllOf, Probe, TcpProbe};
use ops_core::{StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::service::{Liveness, log_tail};

impl ReleaseDirectory {
    /// Asks the new instance itself, not yet through the traffic, and the guards.
    pub(super) async fn pass_gate(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let placement = Placement::known(version, cx)?;
        let url = self.0.service.health_url(placement.address);
        let identity = self.0.service.probe(&url, version).named("the new instance");
        let all = AllOf::new("the gate", self.0.gate.timeout).probe(identity);
        let all = crate::gate::guarded(all, &self.0.guards, guards)?;
        // One that ran all the while has shown that it keeps answering; what counts is time.
        let needed = if placement.warm { 1 } else { self.0.gate.consecutive };
        self.be_sure(&all, needed, version, Some(&placement.instance), cx).await
    }

    /// In an emergency it is enough that the new instance runs and takes connections: its health
    /// may be what is broken everywhere.
    pub(super) async fn await_listener(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let placement = Placement::known(version, cx)?;
        let probe = TcpProbe::new(placement.address.to_string());
        self.be_sure(&probe, 1, version, Some(&placement.instance), cx).await
    }

    /// Asks the public address, through whatever lies before the service.
    pub(super) async fn verify_public(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(url) = self.public_health_url() else { return Ok(()) };
        let probe = self.0.service.probe(&url, version).named("the public address");
        self.be_sure(&probe, self.0.gate.consecutive, version, None, cx).await
    }

    pub(super) fn public_health_url(&self) -> Option<String> {
        let public = self.0.public.as_ref()?;
        Some(format!("{}{}", public.as_str().trim_end_matches('/'), self.0.service.health_path))
    }

    async fn be_sure(
        &self,
        probe: &dyn Probe,
        needed: u32,
        version: &Version,
        instance: Option<&str>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let alive = || self.still_runs(instance, cx).boxed();
        let Err(why) = self.0.gate.be_sure(probe, needed, &alive, cx).await? else {
            return Ok(());
        };
        let log = instance.map(|name| self.0.service.log_path(&self.instance_path(name)));
        let error = Error::new(ErrorKind::Gate, format!("{version} does not pass: {why}"));
        let read = move |_: &_| Ok::<_, Error>(log.and_then(|path| log_tail(&path)));
        Err(match cx.blocking(read).await? {
            Some(tail) => error.with("log", tail),
            None => error,
        }
        .into())
    }

    pub(super) fn still_runs(
        &self,
        instance: Option<&str>,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Result<(), String>, StepError>> + Send + use<> {
        let folder = instance.map(|name| self.instance_path(name));
        let (site, cx) = (self.clone(), cx.clone());
        async move {
            let Some(folder) = folder else { return Ok(Ok(())) };
            let liveness = cx.blocking(move |_| site.0.manager.liveness(&folder)).await?;
            Ok(match liveness {
                Liveness::Stopped | Liveness::Orphans => Err("it has ended".to_owned()),
                Liveness::Running(_) => Ok(()),
            })
        }
    }
}
