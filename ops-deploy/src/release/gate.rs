//! Whether an instance is good enough: it is the right version, several times in a row, and what
//! guards the gate is well in the same rounds.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::{AllOf, Probe, Streak, TcpProbe, observe};
use ops_core::{Refusal, StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::service::{Liveness, log_tail};

/// So much longer than its probes may take is a set of them waited for: it says which was late.
const SLACK: Duration = Duration::from_millis(100);

impl ReleaseDirectory {
    /// Asks the new instance itself, not yet through the traffic, and the guards.
    pub(super) async fn pass_gate(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let guards = self.guards(guards).map_err(|missing| {
            Error::new(ErrorKind::InvalidConfig, "the gate cannot be asked").refusals([missing])
        })?;
        let placement = Placement::known(version, cx)?;
        let url = self.0.service.health_url(placement.address);
        let identity = self.0.service.probe(&url, version).named("the new instance");
        let mut all = AllOf::new("the gate", self.0.gate.timeout).probe(identity);
        for guard in guards {
            all = all.shared(guard);
        }
        self.be_sure(&all, self.0.gate.consecutive, version, Some(&placement.instance), cx).await
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

    /// The names of the guards of this site.
    pub(super) fn guard_names(&self) -> Vec<String> {
        self.0.guards.iter().map(|guard| guard.name().to_owned()).collect()
    }

    /// The guards of these names; which are missing, if some are.
    pub(super) fn guards(&self, names: &[String]) -> Result<Vec<Arc<dyn Probe>>, Refusal> {
        let find = |name: &String| self.0.guards.iter().find(|guard| guard.name() == name);
        let missing: Vec<_> =
            names.iter().filter(|name| find(name).is_none()).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(names.iter().filter_map(find).cloned().collect());
        }
        let known = self.guard_names();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Refusal::new(
            format!("the gate lacks the guards {} (known: {known})", missing.join(", ")),
            "add them where the release directory is set up, or plan again without them",
        ))
    }

    async fn be_sure(
        &self,
        probe: &dyn Probe,
        needed: u32,
        version: &Version,
        instance: Option<&str>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let gate = &self.0.gate;
        let failed = |why: String| {
            let log = instance.map(|name| self.0.service.log_path(&self.instance_path(name)));
            let error = Error::new(ErrorKind::Gate, format!("{version} does not pass: {why}"));
            match log.and_then(|path| log_tail(&path)) {
                Some(tail) => error.with("log", tail),
                None => error,
            }
        };
        let mut streak = Streak::default();
        let mut last = "too few right answers".to_owned();
        let asking = async {
            loop {
                self.still_runs(instance, cx)
                    .await?
                    .map_err(|ended| failed(format!("{ended}; {last}")))?;
                let seen = observe(probe, gate.timeout.saturating_add(SLACK)).await;
                if streak.take(&seen.health, needed) {
                    // What answered may be somebody else, in whose way the instance could not be.
                    let runs = self.still_runs(instance, cx).await?;
                    return Ok(runs.map_err(failed)?);
                }
                // Right answers between wrong ones do not hide what is wrong.
                if !seen.health.is_healthy() {
                    last = plain(&format!("{} is {}", seen.probe, seen.health));
                }
                tokio::time::sleep(gate.interval).await;
            }
        };
        let outcome: Result<Result<(), StepError>, _> =
            cx.until_cancelled(tokio::time::timeout(gate.deadline, asking)).await?;
        outcome
            .unwrap_or_else(|_| Err(failed(format!("{last} (after {:?})", gate.deadline)).into()))
    }

    fn still_runs(
        &self,
        instance: Option<&str>,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Result<(), String>, StepError>> + Send {
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

/// What a service said of itself goes into journals and terminals.
pub(super) fn plain(text: &str) -> String {
    const MOST: usize = 500;
    text.chars().filter(|c| !c.is_control()).take(MOST).collect()
}
