//! What a deployment and a rollback do, as plans.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::observe;
use ops_core::{Plan, Refusal, Version, World};

use super::host::{DockerHost, names};
use super::releases::{incomplete, short};
use super::status::Status;
use super::step::DockerStep as S;
use crate::error::{Error, ErrorKind};
use crate::fate::removed;
use crate::history::Verb;
use crate::target::{Observed, Running, Target};

/// How much is made sure before the traffic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Gate,
    Emergency,
}

impl DockerHost {
    async fn plan(
        &self,
        version: &Version,
        verb: Verb,
        care: Care,
        status: &Status,
    ) -> Result<Plan, Error> {
        let current = status.current()?.cloned();
        let release = status.releases.iter().find(|it| it.version == *version && it.is_complete());
        let release = release.ok_or_else(|| incomplete(version, &status.releases))?;
        let mut plan = Plan::new(verb.as_str()).version(version.clone()).within(self.0.deadline);
        plan = plan.fact("to", version);
        if let Some(current) = &current {
            plan = plan.fact("from", current);
        }
        if care == Care::Emergency {
            plan = plan.fact("emergency", true);
        }
        for (service, image) in &release.images {
            plan = plan.fact(format!("image of {service}"), short(image));
        }
        if current.as_ref() == Some(version) && self.serves_well(version, status).await? {
            return Ok(plan.fact("state", format!("{version} is in service and well")));
        }

        // A version that is brought into service anew has no earlier one to keep warm but itself.
        let goes = current.clone().filter(|current| current != version);
        let warm = goes.clone().filter(|_| self.0.keep_warm);
        let old = removed(self.fates(Some(version), goes.as_ref(), Vec::new(), status));
        let (v, images) = (|| version.clone(), release.images.clone());
        let first = images.values().next().cloned().unwrap_or_default();
        let mut changes = vec![
            S::TakeLock { image: first },
            S::ExpectCurrent { current: current.clone() },
            S::Require { version: v(), images: images.clone() },
        ];
        for service in &self.0.services {
            let image = images.get(&service.name).cloned().unwrap_or_default();
            let service = service.name.clone();
            changes.push(S::StartContainer { service, version: v(), image, verb });
        }
        changes.push(match care {
            Care::Gate => {
                let guards = crate::gate::guard_names(&self.0.guards);
                S::PassGate { version: v(), guards }
            }
            Care::Emergency => S::AwaitListeners { version: v() },
        });
        for service in self.0.services.iter().filter(|service| service.traffic.is_some()) {
            changes.push(S::SwitchTraffic { service: service.name.clone(), version: v() });
        }
        let is_public = self.0.services.iter().any(|it| it.public_probe(version).is_some());
        if is_public && care == Care::Gate {
            changes.push(S::VerifyPublic { version: v() });
        }
        changes.push(S::RecordHistory { version: v(), verb, images, before: current });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        let finishers =
            [S::StopOthers { version: v(), warm }, S::RemoveOld { old }, S::ReleaseLock];
        for step in &finishers {
            plan = plan.finisher(self, step)?;
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

    async fn plan_back(&self, to: Option<Version>, care: Care) -> Result<Plan, Error> {
        let status = self.look().await?;
        let current = status.current()?;
        let to = match (to, current) {
            (Some(to), _) => to,
            (None, Some(current)) => Self::previous(current, &status).ok_or_else(|| {
                let mut others = status.complete();
                others.retain(|version| version != current);
                let error =
                    Error::new(ErrorKind::NoPrevious, "there is no previous complete version")
                        .with("current", current);
                if others.is_empty() {
                    error.remedy("no other version is complete; deploy one")
                } else {
                    error.remedy(format!("name one of the complete versions: {}", names(&others)))
                }
            })?,
            (None, None) => {
                let unknown = "cannot determine the current version";
                return Err(Error::new(ErrorKind::UnknownCurrent, unknown)
                    .refusals([Refusal::new(
                        "no version is in service",
                        "name the version to go back to",
                    )])
                    .with("complete", names(&status.complete())));
            }
        };
        self.plan(&to, Verb::Rollback, care, &status).await
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
            let current = status.current();
            let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
            let running = status.containers.iter().filter(|container| container.runs());
            Ok(Observed {
                contradictions: current
                    .as_ref()
                    .err()
                    .map(|error| error.reasons().to_vec())
                    .unwrap_or_default(),
                current: current.ok().flatten().cloned(),
                running: running
                    .map(|container| Running {
                        name: container.name.clone(),
                        version: container.version.clone(),
                        address: container.address.unwrap_or(nowhere),
                        in_traffic: status.is_in_service(container),
                    })
                    .collect(),
                versions: status.complete(),
            })
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
