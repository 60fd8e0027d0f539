//! After the commit: the old containers stop, and old releases go.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ops_core::{Context, OperationId, Plan, StepContext, StepError, Version};

use super::containers::{Container, ContainerState};
use super::host::DockerHost;
use super::spec::STOP_GRACE;
use super::start::Placement;
use super::status::Status;
use super::step::DockerStep;
use crate::error::{Error, ErrorKind};
use crate::fate::{Fate, Kept, Stays, Use, removed};
use crate::open_journals::named_by_open_journals;
use crate::switching::drain;

impl DockerHost {
    /// Stops every container but those in service, and, if the previous ones are to stay warm, those.
    pub(super) async fn stop_others(
        &self,
        version: &Version,
        warm: Option<&Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if self.is_superseded(cx).await? {
            return Ok(());
        }
        let mut ours = BTreeSet::new();
        for service in &self.0.services {
            let Some(placement) = Placement::noted(&service.name, version, cx)? else { continue };
            // Nobody switched the traffic since: else what is stopped here might be what serves.
            if let Some(traffic) = &service.traffic {
                let now = traffic.current().await?;
                let instance = now.upstream.map_or("nothing".to_owned(), |it| it.instance);
                if instance != placement.container {
                    let error = "the traffic does not go to the new container";
                    return Err(Error::new(ErrorKind::Conflict, error)
                        .with("service", &service.name)
                        .with("container", instance)
                        .with("epoch", now.epoch)
                        .remedy(format!(
                            "see who switched it, point it to `{}`, then recover",
                            placement.container
                        ))
                        .into());
                }
            }
            ours.insert(placement.container);
        }
        let containers = self.containers().await?.containers;
        for service in self.0.services.iter().filter(|service| service.traffic.is_some()) {
            let is_warm = |it: &&Container| {
                it.service == service.name && Some(&it.version) == warm && it.runs()
            };
            let kept = containers.iter().rev().filter(is_warm).find(|it| !ours.contains(&it.name));
            ours.extend(kept.map(|it| it.name.clone()));
        }
        for container in containers.iter().filter(|it| it.runs() && !ours.contains(&it.name)) {
            let service = self.service(&container.service);
            if let (Some(traffic), Some(upstream)) =
                (service.and_then(|service| service.traffic.as_ref()), container.upstream())
            {
                drain(&**traffic, &upstream, self.0.drain, cx).await?;
                cx.fault_point("docker: old container drained");
            }
            let grace = service.map_or(STOP_GRACE, |service| service.stop_grace);
            cx.until_cancelled(self.0.engine.stop(&container.name, grace)).await??;
        }
        Ok(())
    }

    /// Removes old releases, and the containers that nobody asks for any more.
    pub(super) async fn remove_old(
        &self,
        old: &[Version],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if self.is_superseded(cx).await? {
            return Ok(());
        }
        let (journals, id) = (cx.context().state_dir().to_owned(), cx.operation());
        let versions = old.to_vec();
        let mut stays =
            cx.blocking(move |_| named_by_open_journals(&journals, &versions, Some(id))).await?;
        let containers = self.containers().await?.containers;
        stays.extend(containers.iter().filter(|it| it.runs()).map(|it| it.version.clone()));
        let old: Vec<_> = old.iter().filter(|version| !stays.contains(version)).collect();
        let goes = |it: &&Container| !it.runs() && old.contains(&&it.version);
        let unused = self.forgettable(&containers, Some(id), cx.context().clock().now());
        for container in containers.iter().filter(goes).chain(unused) {
            cx.go_on()?;
            self.0.engine.remove(&container.name).await?;
            cx.fault_point("docker: old container removed");
        }
        for version in old {
            for service in &self.0.services {
                cx.go_on()?;
                self.0.engine.remove_tag(&service.tag(version)).await?;
                cx.fault_point("docker: old image removed");
            }
        }
        Ok(())
    }

    /// The containers that no rollback would start: all that are stopped but the newest of each
    /// service and version, and those that were never started by an operation that is long over.
    fn forgettable<'a>(
        &self,
        containers: &'a [Container],
        ours: Option<OperationId>,
        now: Timestamp,
    ) -> Vec<&'a Container> {
        let ours = ours.map(|id| id.to_string());
        let lease = jiff::SignedDuration::try_from(self.0.lease).unwrap_or_default();
        let (mut seen, mut forgettable) = (BTreeSet::new(), Vec::new());
        for container in containers.iter().rev() {
            let newest = seen.insert((&container.service, &container.version));
            let goes = match container.state {
                ContainerState::Running => false,
                ContainerState::Stopped => !newest,
                ContainerState::Created => {
                    Some(&container.operation) != ours.as_ref()
                        && now.duration_since(container.created) > lease
                }
            };
            if goes {
                forgettable.push(container);
            }
        }
        forgettable
    }

    /// What becomes of each release when `comes` is in service and `goes` the way back.
    pub(super) fn fates(
        &self,
        comes: Option<&Version>,
        goes: Option<&Version>,
        others: Vec<(Version, Kept)>,
        status: &Status,
    ) -> Vec<Fate> {
        let entries = status.history.entries();
        let uses = status.releases.iter().map(|release| {
            let served = entries.iter().rev().find(|entry| entry.version == release.version);
            Use {
                at: served.map_or(release.created, |entry| entry.at),
                served: served.is_some(),
                version: release.version.clone(),
            }
        });
        let stays = Stays { comes: comes.cloned(), goes: goes.cloned(), others };
        stays.judge(uses.collect(), self.0.keep, Timestamp::now())
    }

    /// Plans to remove old releases by the rule of each deployment: their stopped containers and
    /// their images. Its facts say of each release why it goes or stays, and which containers go.
    /// What an unfinished operation of this context names stays, and so does what runs. The plan is
    /// empty if there is nothing to do.
    ///
    /// # Errors
    /// If the version in service cannot be told, or something cannot be read.
    pub async fn plan_cleanup(&self, cx: &Context) -> Result<Plan, Error> {
        let status = self.look().await?;
        let current = status.current()?.cloned();
        let previous = current.as_ref().and_then(|current| Self::previous(current, &status));
        let state_dir = cx.state_dir().to_owned();
        let versions: Vec<_> = status.releases.iter().map(|it| it.version.clone()).collect();
        let look = move || named_by_open_journals(&state_dir, &versions, None);
        let named = tokio::task::spawn_blocking(look)
            .await
            .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))??;
        let runs = status.containers.iter().filter(|container| container.runs());
        let others = runs
            .map(|container| (container.version.clone(), Kept::Runs))
            .chain(named.into_iter().map(|version| (version, Kept::Named)))
            .collect();
        let fates = self.fates(current.as_ref(), previous.as_ref(), others, &status);
        let mut plan = Plan::new("cleanup").within(self.0.deadline);
        for Fate { version, fate } in &fates {
            plan = match fate {
                Ok(goes) => plan.fact(format!("remove {version}"), goes),
                Err(kept) => plan.fact(format!("keep {version}"), kept),
            };
        }
        let old = removed(fates);
        let unused = self.forgettable(&status.containers, None, cx.clock().now());
        for container in &unused {
            plan = plan.fact(format!("remove {}", container.name), "a later one is kept");
        }
        let image = status.releases.iter().rev().find_map(|it| it.images.values().next());
        let Some(image) = image.filter(|_| !old.is_empty() || !unused.is_empty()) else {
            return Ok(plan);
        };
        for step in
            [DockerStep::TakeLock { image: image.clone() }, DockerStep::ExpectCurrent { current }]
        {
            plan = plan.change(self, &step)?;
        }
        for step in [DockerStep::RemoveOld { old }, DockerStep::ReleaseLock] {
            plan = plan.finisher(self, &step)?;
        }
        Ok(plan)
    }
}
