//! What a deployment and a rollback do, as plans.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::observe;
use ops_core::{Plan, Version, World};

use super::host::DockerHost;
use super::releases::{images_or_build, short};
use super::status::Status;
use super::step::DockerStep as S;
use crate::error::Error;
use crate::fate::removed;
use crate::history::{History, Verb};
use crate::planning::{
    Care, crossing, headed, is_well, names, no_previous, nothing_in_service, way_across,
};
use crate::stages::{StageStep, When};
use crate::target::{Known, LockHolder, Observed, Running, Target};

impl DockerHost {
    async fn plan(
        &self,
        version: &Version,
        verb: Verb,
        care: Care,
        status: &Status,
    ) -> Result<Plan, Error> {
        let current = status.current()?.cloned();
        // What is to be built cannot be pinned yet.
        let builds = verb == Verb::Deploy && self.0.stages.build.is_some();
        let images = images_or_build(version, &status.releases, builds)?;
        let mut plan = headed(verb, version, current.as_ref(), care, self.0.deadline);
        for (service, image) in &images {
            plan = plan.fact(format!("image of {service}"), short(image));
        }
        if current.as_ref() == Some(version) && self.serves_well(version, status).await? {
            return Ok(is_well(plan, version));
        }

        // A version that is brought into service anew has no earlier one to keep warm but itself.
        let goes = current.clone().filter(|current| current != version);
        let warm = goes.clone().filter(|_| self.0.keep_warm);
        let old = removed(self.fates(Some(version), goes.as_ref(), Vec::new(), status));
        let v = || version.clone();
        let tag = self.0.services[0].tag(version);
        let lock = images.values().next().cloned().unwrap_or(tag);
        let stages = &self.0.stages;
        let careful = care == Care::Gate;
        let hooks =
            |when| stages.hooks(when, version).into_iter().filter(|_| careful).map(S::Stage);
        let mut changes = Vec::new();
        changes.extend(stages.preflight(version).filter(|_| careful).map(S::Stage));
        if images.is_empty() {
            changes.push(S::Stage(StageStep::Build { version: v() }));
        }
        changes.extend([
            S::TakeLock { image: lock },
            S::ExpectCurrent { current: current.clone() },
            S::Require { version: v(), images },
        ]);
        changes.extend(hooks(When::BeforeStart));
        if verb == Verb::Deploy {
            changes.extend(stages.migrate(version).into_iter().map(S::Stage));
        }
        for service in &self.0.services {
            let service = service.name.clone();
            changes.push(S::StartContainer { service, version: v(), verb });
        }
        changes.push(match care {
            Care::Gate => {
                let guards = crate::gate::guard_names(&self.0.guards);
                S::PassGate { version: v(), guards }
            }
            Care::Emergency => S::AwaitListeners { version: v() },
        });
        changes.extend(hooks(When::BeforeSwitch));
        for service in self.0.services.iter().filter(|service| service.traffic.is_some()) {
            changes.push(S::SwitchTraffic { service: service.name.clone(), version: v() });
        }
        let is_public = self.0.services.iter().any(|it| it.public_probe(version).is_some());
        if is_public && care == Care::Gate {
            changes.push(S::VerifyPublic { version: v() });
        }
        changes.extend(hooks(When::AfterSwitch));
        changes.extend(stages.bake(version).filter(|_| careful).map(S::Stage));
        changes.push(S::RecordHistory { version: v(), verb, before: current });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        let finishers = [S::StopOthers { version: v(), warm }, S::RemoveOld { old }];
        let after = stages.hooks(When::AfterCommit, version).into_iter().map(S::Stage);
        for step in finishers.into_iter().chain(after).chain([S::ReleaseLock]) {
            plan = plan.finisher(self, &step)?;
        }
        Ok(plan)
    }

    async fn serves_well(&self, version: &Version, status: &Status) -> Result<bool, Error> {
        for service in &self.0.services {
            let Some(container) = status.in_service.get(&service.name).filter(|it| it.runs())
            else {
                return Ok(false);
            };
            let Some(address) = container.address else { return Ok(false) };
            if let Some(probe) = service.probe(address, version)
                && !observe(&probe, self.0.gate.timeout).await.health.is_healthy()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn plan_back(
        &self,
        to: Option<Version>,
        care: Care,
        across: bool,
    ) -> Result<Plan, Error> {
        let status = self.look().await?;
        let current = status.current()?;
        let to = match (to, current) {
            (Some(to), _) => to,
            (None, Some(current)) => Self::previous(current, &status)
                .ok_or_else(|| no_previous(current, &status.complete()))?,
            (None, None) => {
                return Err(nothing_in_service().with("complete", names(&status.complete())));
            }
        };
        let across = way_across(&status.history, &to, across)?;
        Ok(crossing(self.plan(&to, Verb::Rollback, care, &status).await?, across))
    }
}

impl Target for DockerHost {
    fn name(&self) -> String {
        ops_core::Resource::id(self).to_string()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }

    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        async move {
            let status = self.look().await?;
            let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
            let running = status.containers.iter().filter(|container| container.runs());
            let running = running.map(|container| Running {
                name: container.name.clone(),
                version: container.version.clone(),
                address: container.address.unwrap_or(nowhere),
                in_traffic: status.is_in_service(container),
            });
            Ok(Observed::new(status.current(), running.collect(), status.complete()))
        }
        .boxed()
    }

    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>> {
        async move {
            let status = self.look().await?;
            let current = status.current().ok().flatten().cloned();
            let runs = |version: &Version| {
                status.containers.iter().any(|it| it.version == *version && it.runs())
            };
            let releases = status.releases.iter();
            Ok(releases.map(|it| it.known(runs(&it.version), current.as_ref())).collect())
        }
        .boxed()
    }

    fn history(&self) -> BoxFuture<'_, Result<History, Error>> {
        async move { Ok(self.look().await?.history) }.boxed()
    }

    fn lock_holder(&self) -> BoxFuture<'_, Result<Option<LockHolder>, Error>> {
        self.holder().boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        async move { Ok(self.look().await?.complete()) }.boxed()
    }

    fn plan_deploy<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Plan, Error>> {
        async move {
            let status = self.look().await?;
            self.plan(version, Verb::Deploy, Care::Gate, &status).await
        }
        .boxed()
    }

    fn plan_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, Care::Gate, false).boxed()
    }

    fn plan_emergency_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, Care::Emergency, false).boxed()
    }

    fn plan_rollback_across_migrations(
        &self,
        to: Option<Version>,
    ) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, Care::Gate, true).boxed()
    }
}
