//! Watches the new containers while they have the traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use ops_core::probe::{AllOf, Health};
use ops_core::{StepContext, StepError, Version};

use super::engine::Load;
use super::host::DockerHost;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::gate::plain;
use crate::stages::{Bake, Verdict, Watch};

impl DockerHost {
    pub(super) async fn watch(&self, version: &Version, cx: &StepContext) -> Result<(), StepError> {
        let Some(bake) = &self.0.bake else { return Ok(()) };
        let mut timed = AllOf::new("the public", self.0.gate.timeout);
        let mut containers = Vec::new();
        for service in &self.0.services {
            let new = Placement::known(&service.name, version, cx)?;
            let direct = || service.probe(new.address, version);
            if let Some(probe) = service.public_probe(version).or_else(direct) {
                timed = timed.probe(probe.named(format!("`{}`", service.name)));
            }
            containers.push(new.instance);
        }
        let mut guards = AllOf::new("the guards", self.0.gate.timeout);
        for guard in &self.0.guards {
            guards = guards.shared(guard.clone());
        }
        let begun = tokio::time::Instant::now();
        let mut watch = Watch::new(bake);
        let mut loads: BTreeMap<String, Load> = BTreeMap::new();
        loop {
            let round = self.round(bake, &timed, &guards, &containers, &mut loads);
            let bad = cx.until_cancelled(round).await??;
            match watch.take(bad, begun.elapsed()) {
                Verdict::Passed => return Ok(()),
                Verdict::Failed(why) => {
                    let error = format!("{version} did not do well under traffic: {why}");
                    return Err(Error::new(ErrorKind::Gate, error).into());
                }
                Verdict::GoOn => {}
            }
            cx.until_cancelled(tokio::time::sleep(bake.interval)).await?;
        }
    }

    /// What is bad now; `None` if nothing is.
    async fn round(
        &self,
        bake: &Bake,
        timed: &AllOf,
        guards: &AllOf,
        containers: &[String],
        loads: &mut BTreeMap<String, Load>,
    ) -> Result<Option<String>, Error> {
        let mut bad = Vec::new();
        for seen in timed.observe_each().await {
            if !seen.health.is_healthy() {
                bad.push(plain(&format!("{} is {}", seen.probe, seen.health)));
            } else if seen.latency > bake.latency {
                let (took, most) = (rounded(seen.latency), bake.latency);
                bad.push(format!("{} took {took:?} to answer, {most:?} at most", seen.probe));
            }
        }
        for seen in guards.observe_each().await {
            if seen.health != Health::Healthy {
                bad.push(plain(&format!("{} is {}", seen.probe, seen.health)));
            }
        }
        // The engine may take a second to measure.
        let looks = containers.iter().map(|name| self.condition(name));
        for (name, look) in containers.iter().zip(futures::future::join_all(looks).await) {
            let load = match look? {
                Ok(load) => load,
                Err(why) => {
                    bad.push(why);
                    continue;
                }
            };
            let memory = load.memory_share();
            if memory > bake.memory {
                bad.push(format!("`{name}` uses {:.0} % of its memory", memory * 100.0));
            }
            let before = loads.insert(name.clone(), load.clone());
            let cpu = before.map(|before| load.cpu_share_since(&before)).unwrap_or_default();
            if cpu > bake.cpu {
                bad.push(format!("`{name}` uses {:.0} % of the CPUs", cpu * 100.0));
            }
        }
        Ok((!bad.is_empty()).then(|| bad.join("; ")))
    }
}

impl DockerHost {
    async fn condition(&self, name: &str) -> Result<Result<Load, String>, Error> {
        if let Err(why) = self.keeps_running(name).await? {
            return Ok(Err(why));
        }
        // No data is no good data.
        let load = self.0.engine.load(name).await?;
        Ok(load.ok_or_else(|| format!("the load of `{name}` cannot be had")))
    }
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
