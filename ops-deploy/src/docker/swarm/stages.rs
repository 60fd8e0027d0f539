//! The stages on a Swarm.

use std::collections::BTreeMap;

use bollard::models::TaskState;
use futures::FutureExt as _;
use ops_core::probe::AllOf;
use ops_core::{Refusal, StepContext, StepError, Version};

use super::super::containers::OPERATION;
use super::super::releases;
use super::super::watch::Loads;
use super::Swarm;
use crate::error::Error;
use crate::stages::{Staged, Stages, Watched};

impl Staged for Swarm {
    fn stages(&self) -> &Stages {
        &self.0.stages
    }

    async fn hold(&self, cx: &StepContext) -> Result<(), StepError> {
        self.hold_lock(cx).await
    }

    async fn complete(&self, version: &Version) -> Result<Result<(), Error>, StepError> {
        let releases = self.look().await?.releases;
        Ok(releases::complete(version, &releases).map(drop))
    }

    async fn findings(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        self.surveyed(version, cx).await
    }

    async fn watched(&self, version: &Version, cx: &StepContext) -> Result<Watched<'_>, StepError> {
        let mut timed = AllOf::new("the public", self.0.gate.timeout);
        for service in &self.0.services {
            if let Some(probe) = service.probe(version) {
                timed = timed.probe(probe);
            }
        }
        let guards = AllOf::new("the guards", self.0.gate.timeout);
        let guards = self.0.guards.iter().cloned().fold(guards, AllOf::shared);
        let ours = cx.operation().to_string();
        let failed_before = self.failures(&ours).await?;
        let (swarm, loads) = (self.clone(), Loads::default());
        let look = move || {
            let (swarm, loads) = (swarm.clone(), loads.clone());
            let (ours, failed_before) = (ours.clone(), failed_before.clone());
            async move { Ok(swarm.condition(&ours, &failed_before, &loads).await?) }.boxed()
        };
        Ok(Watched { timed, guards, counted: Vec::new(), look: Box::new(look) })
    }
}

/// How many tasks of an operation failed, by service.
type Failures = BTreeMap<String, usize>;

impl Swarm {
    async fn failures(&self, ours: &str) -> Result<Failures, Error> {
        let mut failures = Failures::new();
        for service in &self.0.services {
            let failed = self.tasks_by(&service.name, ours).await?.into_iter().filter(|task| {
                let state = task.status.as_ref().and_then(|status| status.state);
                matches!(state, Some(TaskState::FAILED | TaskState::REJECTED))
            });
            failures.insert(service.name.clone(), failed.count());
        }
        Ok(failures)
    }

    async fn tasks_by(
        &self,
        service: &str,
        ours: &str,
    ) -> Result<Vec<bollard::models::Task>, Error> {
        let mut tasks = self.0.engine.tasks(service).await?;
        tasks.retain(|task| {
            let container = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
            let labels = container.and_then(|container| container.labels.as_ref());
            labels.and_then(|labels| labels.get(OPERATION)).is_some_and(|by| by == ours)
        });
        Ok(tasks)
    }

    /// What is bad with the tasks: those that have failed since, and, of those that the manager runs
    /// itself, how much they use. What other nodes run is known to them alone.
    async fn condition(
        &self,
        ours: &str,
        failed_before: &Failures,
        loads: &Loads,
    ) -> Result<Vec<String>, Error> {
        let Some(bake) = &self.0.stages.bake else { return Ok(Vec::new()) };
        let mut bad = Vec::new();
        for (service, failed) in self.failures(ours).await? {
            let before = failed_before.get(&service).copied().unwrap_or_default();
            if failed > before {
                bad.push(format!("{} tasks of `{service}` have failed", failed - before));
            }
        }
        for service in &self.0.services {
            for task in self.tasks_by(&service.name, ours).await? {
                let status = task.status.unwrap_or_default();
                let runs = status.state == Some(TaskState::RUNNING);
                let container = status.container_status.and_then(|status| status.container_id);
                let Some(container) = container.filter(|_| runs) else { continue };
                if let Some(load) = self.0.engine.load(&container).await? {
                    bad.extend(loads.judge(bake, &service.name, load));
                }
            }
        }
        Ok(bad)
    }
}
