//! Whether new containers are good enough: each is the right version, and they keep running.

use std::net::SocketAddr;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::{AllOf, Health, Probe, TcpProbe};
use ops_core::{StepContext, StepError, Version};

use super::host::DockerHost;
use super::start::Placement;
use crate::error::{Error, ErrorKind};

/// Asks the engine whether a container runs, and never had to be started again.
#[derive(Debug)]
struct KeepsRunning {
    host: DockerHost,
    container: String,
}

impl Probe for KeepsRunning {
    fn name(&self) -> &str {
        &self.container
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            match self.host.keeps_running(&self.container).await {
                Ok(Ok(())) => Health::Healthy,
                Ok(Err(why)) => Health::unhealthy(why),
                Err(error) => Health::unknown(ops_core::error::chain(&error).join(": ")),
            }
        }
        .boxed()
    }
}

impl DockerHost {
    /// Asks the new containers themselves, not yet through the traffic, and the guards.
    pub(super) async fn pass_gate(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let mut all = AllOf::new("the gate", self.0.gate.timeout);
        for (name, address, container) in self.placed(version, cx)? {
            let spec = self.service(&name);
            all = match spec.and_then(|spec| spec.probe(address, version)) {
                Some(identity) => all.probe(identity.named(format!("the new `{name}`"))),
                None => all.probe(KeepsRunning { host: self.clone(), container }),
            };
        }
        let all = crate::gate::guarded(all, &self.0.guards, guards)?;
        self.be_sure(&all, self.0.gate.consecutive, version, cx).await
    }

    /// In an emergency it is enough that the new containers run and take connections: their health
    /// may be what is broken everywhere.
    pub(super) async fn await_listeners(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let mut all = AllOf::new("the new containers", self.0.gate.timeout);
        for (name, address, container) in self.placed(version, cx)? {
            let answers = self.service(&name).is_some_and(|spec| spec.health_path.is_some());
            all = if answers {
                all.probe(TcpProbe::new(address.to_string()))
            } else {
                all.probe(KeepsRunning { host: self.clone(), container })
            };
        }
        self.be_sure(&all, 1, version, cx).await
    }

    /// Asks the public addresses, through whatever lies before the services.
    pub(super) async fn verify_public(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let mut all = AllOf::new("the public", self.0.gate.timeout);
        for service in &self.0.services {
            if let Some(probe) = service.public_probe(version) {
                all = all.probe(probe.named(format!("the public address of `{}`", service.name)));
            }
        }
        self.be_sure(&all, self.0.gate.consecutive, version, cx).await
    }

    /// Service, address and name of each container that the operation brings.
    fn placed(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<(String, SocketAddr, String)>, StepError> {
        let placed = self.0.services.iter().map(|service| {
            let upstream = Placement::known(&service.name, version, cx)?;
            Ok((service.name.clone(), upstream.address, upstream.instance))
        });
        placed.collect()
    }

    async fn be_sure(
        &self,
        probe: &dyn Probe,
        needed: u32,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let containers: Vec<_> =
            self.placed(version, cx)?.into_iter().map(|(_, _, container)| container).collect();
        let alive = || {
            async {
                for container in &containers {
                    let runs = self.keeps_running(container).await?;
                    if runs.is_err() {
                        return Ok(runs);
                    }
                }
                Ok(Ok(()))
            }
            .boxed()
        };
        let Err(why) = self.0.gate.be_sure(probe, needed, &alive, cx).await? else {
            return Ok(());
        };
        let mut error = Error::new(ErrorKind::Gate, format!("{version} does not pass: {why}"));
        for container in &containers {
            if let Some(tail) = self.0.engine.log_tail(container).await {
                error = error.with("log", format_args!("{container}: {tail}"));
            }
        }
        Err(error.into())
    }

    pub(super) async fn keeps_running(&self, container: &str) -> Result<Result<(), String>, Error> {
        let Some(found) = self.0.engine.inspect(container).await? else {
            return Ok(Err(format!("the container `{container}` is gone")));
        };
        let state = found.state.unwrap_or_default();
        let again = found.restart_count.unwrap_or_default();
        if again > 0 || state.restarting == Some(true) {
            return Ok(Err(format!(
                "`{container}` has ended, and was started again {again} times"
            )));
        }
        if state.running != Some(true) {
            let code = state.exit_code.unwrap_or_default();
            let killed = if state.oom_killed == Some(true) { ", for want of memory" } else { "" };
            return Ok(Err(format!("`{container}` has ended with {code}{killed}")));
        }
        Ok(Ok(()))
    }
}
