//! What a deployment and a rollback do, as plans.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::observe;
use ops_core::{Context, Plan, Version, World};

use super::directory::ReleaseDirectory;
use super::instance::Instance;
use super::status::Status;
use super::step::ReleaseStep as S;
use crate::error::{Error, ErrorKind};
use crate::fate::{Fate, Kept, Stays, removed};
use crate::gate::guard_names;
use crate::history::{History, Verb};
use crate::open_journals::named_by_open_journals;
use crate::planning::{
    Care, crossing, headed, is_well, names, no_previous, nothing_in_service, way_across,
};
use crate::service::Liveness;
use crate::stages::{StageStep, When};
use crate::target::{Known, Observed, Running, Target};

impl ReleaseDirectory {
    async fn plan(
        &self,
        version: &Version,
        verb: Verb,
        care: Care,
        status: &Status,
    ) -> Result<Plan, Error> {
        let current = status.current()?.cloned();
        let mut plan = headed(verb, version, current.as_ref(), care, self.0.deadline);
        if current.as_ref() == Some(version) && self.serves_well(version, status).await {
            return Ok(is_well(plan, version));
        }

        // A version that is brought into service anew has no earlier one to keep warm but itself.
        let goes = current.clone().filter(|current| current != version);
        let warm = goes.clone().filter(|_| self.0.keep_warm);
        let old = removed(self.fates(Some(version), goes.as_ref(), &[], status).await?);
        let v = || version.clone();
        let stages = &self.0.stages;
        let careful = care == Care::Gate;
        let hooks =
            |when| stages.hooks(when, version).into_iter().filter(|_| careful).map(S::Stage);
        let mut changes = Vec::new();
        changes.extend(stages.preflight(version).filter(|_| careful).map(S::Stage));
        changes.push(S::ExpectCurrent { current });
        if verb == Verb::Deploy && stages.build.is_some() && !status.versions.contains(version) {
            changes.push(S::Stage(StageStep::Build { version: v() }));
        }
        changes.push(S::RequireRelease { version: v() });
        changes.extend(hooks(When::BeforeStart));
        if verb == Verb::Deploy {
            changes.extend(stages.migrate(version).into_iter().map(S::Stage));
        }
        changes.push(S::StartService { version: v() });
        changes.push(match care {
            Care::Gate => S::PassGate { version: v(), guards: guard_names(&self.0.guards) },
            Care::Emergency => S::AwaitListener { version: v() },
        });
        changes.extend(hooks(When::BeforeSwitch));
        if self.0.traffic.is_some() {
            changes.push(S::SwitchTraffic { version: v() });
        }
        changes.push(S::MoveCurrent { version: v() });
        if self.0.public.is_some() && care == Care::Gate {
            changes.push(S::VerifyPublic { version: v() });
        }
        changes.extend(hooks(When::AfterSwitch));
        changes.extend(stages.bake(version).filter(|_| careful).map(S::Stage));
        changes.push(S::RecordHistory { version: v(), verb });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        let after = stages.hooks(When::AfterCommit, version).into_iter().map(S::Stage);
        let finishers = [S::StopOthers { version: v(), warm }, S::RemoveReleases { old }];
        for step in finishers.into_iter().chain(after) {
            plan = plan.finisher(self, &step)?;
        }
        Ok(plan)
    }

    async fn serves_well(&self, version: &Version, status: &Status) -> bool {
        let Some(instance) = status.in_service().filter(|i| i.version == *version) else {
            return false;
        };
        let alive = matches!(instance.liveness, Liveness::Running(Some(_)));
        alive && {
            let probe = self.0.service.probe(&self.0.service.health_url(instance.address), version);
            observe(&probe, self.0.gate.timeout).await.health.is_healthy()
        }
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
            (Some(to), _) if !status.versions.contains(&to) => return Err(self.incomplete(&to)),
            (Some(to), _) => to,
            (None, Some(current)) => Self::previous(current, &status)?,
            (None, None) => {
                return Err(nothing_in_service().with("complete", names(&status.versions)));
            }
        };
        let known = status.history.clone().unwrap_or_default();
        let across = way_across(&known, &to, across)?;
        Ok(crossing(self.plan(&to, Verb::Rollback, care, &status).await?, across))
    }

    /// Plans to remove old releases by the rule of each deployment, and what earlier operations left
    /// behind. Its facts say of each release why it goes or stays. What an unfinished operation of
    /// this context names stays, and so does what runs. The plan is empty if there is nothing to do.
    ///
    /// # Errors
    /// If the version in service cannot be told, or something cannot be read.
    pub async fn plan_cleanup(&self, cx: &Context) -> Result<Plan, Error> {
        let status = self.look().await?;
        let current = status.current()?.cloned();
        let previous = current.as_ref().and_then(|current| Self::previous(current, &status).ok());
        let (site, state_dir) = (self.clone(), cx.state_dir().to_owned());
        let look = move || {
            let named = named_by_open_journals(&state_dir, &site.folders()?, None)?;
            Ok::<_, Error>((named, site.has_leftovers()?))
        };
        let (named, leftovers) = tokio::task::spawn_blocking(look)
            .await
            .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))??;
        let runs = status.instances.iter().filter(|instance| instance.runs());
        let others: Vec<_> = runs
            .map(|instance| (instance.version.clone(), Kept::Runs))
            .chain(named.into_iter().map(|version| (version, Kept::Named)))
            .collect();
        let fates = self.fates(current.as_ref(), previous.as_ref(), &others, &status).await?;
        let mut plan = Plan::new("cleanup").within(self.0.deadline);
        for Fate { version, fate } in &fates {
            plan = match fate {
                Ok(goes) => plan.fact(format!("remove {version}"), goes),
                Err(kept) => plan.fact(format!("keep {version}"), kept),
            };
        }
        let old = removed(fates);
        if old.is_empty() && !leftovers {
            return Ok(plan);
        }
        plan = plan.change(self, &S::ExpectCurrent { current })?;
        Ok(plan.finisher(self, &S::RemoveReleases { old })?)
    }

    /// What becomes of each release when `comes` is in service and `goes` the way back.
    async fn fates(
        &self,
        comes: Option<&Version>,
        goes: Option<&Version>,
        others: &[(Version, Kept)],
        status: &Status,
    ) -> Result<Vec<Fate>, Error> {
        let (site, comes, goes) = (self.clone(), comes.cloned(), goes.cloned());
        let (history, others) = (status.history.clone().unwrap_or_default(), others.to_vec());
        tokio::task::spawn_blocking(move || {
            let uses = site.uses(&history)?;
            let stays = Stays { comes, goes, others };
            Ok(stays.judge(uses, site.0.keep, jiff::Timestamp::now()))
        })
        .await
        .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))?
    }

    /// The version that a rollback goes to.
    fn previous(current: &Version, status: &Status) -> Result<Version, Error> {
        let candidates: Vec<&Version> = match &status.history {
            Some(history) => history.way_back(),
            None => status.versions.iter().rev().collect(),
        };
        let mut earlier = candidates.into_iter().filter(|version| *version != current);
        let complete = earlier.find(|version| status.versions.contains(version));
        complete.cloned().ok_or_else(|| no_previous(current, &status.versions))
    }
}

impl Target for ReleaseDirectory {
    fn name(&self) -> String {
        ops_core::Resource::id(self).to_string()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }

    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        async move {
            let status = self.look().await?;
            let running = status.instances.iter().filter(|instance| instance.runs());
            let running = running.map(|instance| Running {
                name: instance.name.clone(),
                version: instance.version.clone(),
                address: instance.address,
                in_traffic: status.in_service() == Some(instance),
            });
            Ok(Observed::new(status.current(), running.collect(), status.versions.clone()))
        }
        .boxed()
    }

    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>> {
        async move {
            let status = self.look().await?;
            let current = status.current().ok().flatten().cloned();
            let site = self.clone();
            let look = move || {
                let folders = site.folders()?.into_iter().map(|version| {
                    let made = std::fs::metadata(site.release_path(&version));
                    let made = made.and_then(|meta| meta.modified()).ok();
                    let made = made.and_then(|time| jiff::Timestamp::try_from(time).ok());
                    let lacking = site.lacking(&version);
                    Known { version, lacking, made, runs: false, in_service: false }
                });
                Ok::<Vec<_>, Error>(folders.collect())
            };
            let mut known = tokio::task::spawn_blocking(look)
                .await
                .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))??;
            for it in &mut known {
                let runs = |instance: &Instance| instance.runs() && instance.version == it.version;
                it.runs = status.instances.iter().any(runs);
                it.in_service = current.as_ref() == Some(&it.version);
            }
            Ok(known)
        }
        .boxed()
    }

    fn history(&self) -> BoxFuture<'_, Result<History, Error>> {
        async move { Ok(self.look().await?.history.unwrap_or_default()) }.boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        async move { Ok(self.look().await?.versions) }.boxed()
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
