//! What a deployment and a rollback do, as plans.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::observe;
use ops_core::{Plan, Version, World};

use super::super::releases::{images_or_build, short};
use super::{Swarm, SwarmService, SwarmStatus, SwarmStep as S};
use crate::error::Error;
use crate::history::{History, Verb};
use crate::planning::{
    Care, crossing, headed, is_well, names, no_previous, nothing_in_service, way_across,
};
use crate::stages::{StageStep, When};
use crate::target::{Known, LockHolder, Observed, Running, Target};

impl Swarm {
    async fn plan(
        &self,
        version: &Version,
        verb: Verb,
        care: Care,
        status: &SwarmStatus,
    ) -> Result<Plan, Error> {
        let current = status.current()?.cloned();
        // What is to be built cannot be pinned yet.
        let builds = verb == Verb::Deploy && self.0.stages.build.is_some();
        let images = images_or_build(version, &status.releases, builds)?;
        let mut plan = headed(verb, version, current.as_ref(), care, self.0.deadline);
        if current.as_ref() == Some(version) && self.serves_well(version, status).await {
            return Ok(is_well(plan, version));
        }
        let v = || version.clone();
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
            S::TakeLock,
            S::ExpectCurrent { current: current.clone() },
            S::Require { version: v(), images: images.clone() },
        ]);
        changes.extend(hooks(When::BeforeStart));
        if verb == Verb::Deploy {
            changes.extend(stages.migrate(version).into_iter().map(S::Stage));
        }
        changes.extend(hooks(When::BeforeSwitch));
        for SwarmService { name, repository, stop_first, .. } in &self.0.services {
            let mut image = String::new();
            if let Some(id) = images.get(name) {
                image = self.reference(id, repository).await?;
                plan = plan.fact(format!("image of {name}"), short(id));
            }
            let (service, stop_first) = (name.clone(), *stop_first);
            changes.push(S::Update { service, version: v(), image, verb, stop_first });
        }
        if care == Care::Gate {
            let guards = crate::gate::guard_names(&self.0.guards);
            if !guards.is_empty() || self.0.services.iter().any(|it| it.public_url.is_some()) {
                changes.push(S::PassGate { version: v(), guards });
            }
        }
        changes.extend(hooks(When::AfterSwitch));
        changes.extend(stages.bake(version).filter(|_| careful).map(S::Stage));
        changes.push(S::RecordHistory { version: v(), verb, images, before: current });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        let after = stages.hooks(When::AfterCommit, version).into_iter().map(S::Stage);
        for step in after.chain([S::ReleaseLock]) {
            plan = plan.finisher(self, &step)?;
        }
        Ok(plan)
    }

    /// How the nodes of the Swarm know an image: by the digest of its registry, else by its id.
    pub(super) async fn reference(&self, id: &str, repository: &str) -> Result<String, Error> {
        let image = self.0.engine.image(id).await?;
        let digests = image.and_then(|image| image.repo_digests).unwrap_or_default();
        let own = digests
            .into_iter()
            .find(|digest| digest.split_once('@').is_some_and(|(name, _)| name == repository));
        Ok(own.unwrap_or_else(|| id.to_owned()))
    }

    async fn serves_well(&self, version: &Version, status: &SwarmStatus) -> bool {
        for service in &self.0.services {
            if !status.tasks.iter().any(|task| task.service == service.name) {
                return false;
            }
            if let Some(probe) = service.probe(version)
                && !observe(&probe, self.0.gate.timeout).await.health.is_healthy()
            {
                return false;
            }
        }
        true
    }

    async fn plan_back(
        &self,
        to: Option<Version>,
        care: Care,
        across: bool,
    ) -> Result<Plan, Error> {
        let status = self.look().await?;
        let complete = status.complete();
        let to = match (to, status.current()?) {
            (Some(to), _) => to,
            (None, Some(current)) => {
                let way = status.history.way_back();
                let mut earlier = way.into_iter().filter(|version| *version != current);
                let found = earlier.find(|version| complete.contains(version)).cloned();
                found.ok_or_else(|| no_previous(current, &complete))?
            }
            (None, None) => {
                return Err(nothing_in_service().with("complete", names(&complete)));
            }
        };
        let across = way_across(&status.history, &to, across)?;
        Ok(crossing(self.plan(&to, Verb::Rollback, care, &status).await?, across))
    }

    pub(super) fn images_of(status: &SwarmStatus, version: &Version) -> BTreeMap<String, String> {
        let release = status.releases.iter().find(|release| release.version == *version);
        release.map(|release| release.images.clone()).unwrap_or_default()
    }
}

impl Target for Swarm {
    fn name(&self) -> String {
        ops_core::Resource::id(self).to_string()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }

    /// Tasks have no address of their own to the outside: theirs is 0.0.0.0:0.
    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        async move {
            let status = self.look().await?;
            let known = status.tasks.iter().filter_map(|task| {
                Some(Running {
                    name: task.id.clone(),
                    version: task.version.clone()?,
                    address: ([0, 0, 0, 0], 0).into(),
                    in_traffic: true,
                })
            });
            Ok(Observed::new(status.current(), known.collect(), status.complete()))
        }
        .boxed()
    }

    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>> {
        async move {
            let status = self.look().await?;
            let current = status.current().ok().flatten().cloned();
            let runs = |version| status.tasks.iter().any(|it| it.version.as_ref() == Some(version));
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
