//! What a deployment and a rollback do, as plans.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::observe;
use ops_core::{Plan, Version, World};

use super::super::releases::{incomplete, short};
use super::{Swarm, SwarmStatus, SwarmStep as S};
use crate::error::Error;
use crate::history::Verb;
use crate::planning::{Care, headed, is_well, names, no_previous, nothing_in_service};
use crate::target::{Observed, Running, Target};

impl Swarm {
    async fn plan(
        &self,
        version: &Version,
        verb: Verb,
        care: Care,
        status: &SwarmStatus,
    ) -> Result<Plan, Error> {
        let current = status.current()?.cloned();
        let release = status.releases.iter().find(|it| it.version == *version && it.is_complete());
        let release = release.ok_or_else(|| incomplete(version, &status.releases))?;
        let mut plan = headed(verb, version, current.as_ref(), care, self.0.deadline);
        if current.as_ref() == Some(version) && self.serves_well(version, status).await {
            return Ok(is_well(plan, version));
        }
        let (v, images) = (|| version.clone(), release.images.clone());
        let mut changes = vec![
            S::TakeLock,
            S::ExpectCurrent { current: current.clone() },
            S::Require { version: v(), images: images.clone() },
        ];
        for service in &self.0.services {
            let id = images.get(&service.name).cloned().unwrap_or_default();
            let image = self.reference(&id, &service.repository).await?;
            plan = plan.fact(format!("image of {}", service.name), short(&id));
            changes.push(S::Update { service: service.name.clone(), version: v(), image });
        }
        if care == Care::Gate {
            let guards = crate::gate::guard_names(&self.0.guards);
            if !guards.is_empty() || self.0.services.iter().any(|it| it.public_url.is_some()) {
                changes.push(S::PassGate { version: v(), guards });
            }
        }
        changes.push(S::RecordHistory { version: v(), verb, images, before: current });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        Ok(plan.finisher(self, &S::ReleaseLock)?)
    }

    /// How the nodes of the Swarm know an image: by the digest of its registry, else by its id.
    async fn reference(&self, id: &str, repository: &str) -> Result<String, Error> {
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

    async fn plan_back(&self, to: Option<Version>, care: Care) -> Result<Plan, Error> {
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
        self.plan(&to, Verb::Rollback, care, &status).await
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
        self.plan_back(to, Care::Gate).boxed()
    }

    fn plan_emergency_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, Care::Emergency).boxed()
    }
}
