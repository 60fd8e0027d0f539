//! What the new containers are watched by while they have the traffic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::join_all;
use ops_core::probe::AllOf;
use ops_core::{StepContext, StepError, Version};

use super::engine::Load;
use super::host::DockerHost;
use super::start::Placement;
use crate::error::Error;
use crate::stages::{Bake, Counted, Watched};

/// What containers used when they were measured last.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads(Arc<Mutex<BTreeMap<String, Load>>>);

impl Loads {
    /// What of a load is too much.
    pub(super) fn judge(&self, bake: &Bake, name: &str, load: Load) -> Vec<String> {
        let mut bad = Vec::new();
        let memory = load.memory_share();
        if memory > bake.memory {
            bad.push(format!("`{name}` uses {:.0} % of its memory", memory * 100.0));
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(name.to_owned(), load);
        let cpu = before.map(|before| load.cpu_share_since(&before)).unwrap_or_default();
        if cpu > bake.cpu {
            bad.push(format!("`{name}` uses {:.0} % of the CPUs", cpu * 100.0));
        }
        bad
    }
}

impl DockerHost {
    pub(super) fn watched_by(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Watched<'_>, StepError> {
        let mut timed = AllOf::new("the public", self.0.gate.timeout);
        let (mut containers, mut counted) = (Vec::new(), Vec::new());
        for service in &self.0.services {
            let new = Placement::known(&service.name, version, cx)?;
            let public = service.public_probe(version);
            let asked = public.is_some();
            if let Some(probe) = public.or_else(|| service.probe(new.address, version)) {
                timed = timed.probe(probe.named(format!("`{}`", service.name)));
            }
            containers.push(new.instance.clone());
            if let Some(traffic) = service.traffic.as_deref() {
                let service = service.name.clone();
                counted.push(Counted { service, traffic, upstream: new, asked });
            }
        }
        let guards = AllOf::new("the guards", self.0.gate.timeout);
        let guards = self.0.guards.iter().cloned().fold(guards, AllOf::shared);
        let (host, loads) = (self.clone(), Loads::default());
        let look = move || {
            let (host, loads, containers) = (host.clone(), loads.clone(), containers.clone());
            async move { host.loaded(&containers, &loads).await }.boxed()
        };
        Ok(Watched { timed, guards, counted, look: Box::new(look) })
    }

    async fn loaded(&self, containers: &[String], loads: &Loads) -> Result<Vec<String>, StepError> {
        let Some(bake) = &self.0.stages.bake else { return Ok(Vec::new()) };
        let mut bad = Vec::new();
        // The engine may take a second to measure.
        let looks = join_all(containers.iter().map(|name| self.condition(name))).await;
        for (name, look) in containers.iter().zip(looks) {
            match look? {
                Ok(load) => bad.extend(loads.judge(bake, name, load)),
                Err(why) => bad.push(why),
            }
        }
        Ok(bad)
    }

    async fn condition(&self, name: &str) -> Result<Result<Load, String>, Error> {
        if let Err(why) = self.keeps_running(name).await? {
            return Ok(Err(why));
        }
        // No data is no good data.
        let load = self.0.engine.load(name).await?;
        Ok(load.ok_or_else(|| format!("the load of `{name}` cannot be had")))
    }
}
