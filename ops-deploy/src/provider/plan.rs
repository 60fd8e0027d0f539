//! What a deployment and a rollback do, as plans.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{Plan, Refusal, Version, World};

use super::{Provider, ProviderStep as S};
use crate::error::{Error, ErrorKind};
use crate::history::{History, Verb};
use crate::planning::{Care, crossing, headed, is_well, names, nothing_in_service, way_across};
use crate::stages::When;
use crate::target::{Known, Observed, Target};

/// So many of the versions that were in service last are asked for.
const ASKED: usize = 10;

/// What is in service, as far as it can be told.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub version: Option<Version>,
    /// Why it is not sure: the public does not hear it.
    pub silent: Option<Refusal>,
}

impl Provider {
    async fn recorded(&self) -> Result<History, Error> {
        let path = self.history_path();
        let read = move || Ok(History::read(&path)?.unwrap_or_default());
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))?
    }

    /// The version that the public hears, out of those that are known; else the one that was
    /// deployed last, which may be sick.
    pub(super) async fn current(&self) -> Result<Current, Error> {
        let history = self.recorded().await?;
        let mut known: Vec<Version> = Vec::new();
        let recorded = history.entries().iter().rev().map(|entry| entry.version.clone());
        let listed = self.listed().await?.unwrap_or_default().into_iter().rev();
        for version in recorded.chain(listed) {
            if known.len() < ASKED && !known.contains(&version) {
                known.push(version);
            }
        }
        for version in &known {
            if self.answers_as(version).await {
                return Ok(Current { version: Some(version.clone()), silent: None });
            }
        }
        let Some(latest) = history.latest().cloned() else { return Ok(Current::default()) };
        let reason = format!(
            "the history ends in {latest}, but `{}` answers as none of {}",
            self.0.public,
            names(&known)
        );
        let remedy = "see what the provider says, or roll back";
        Ok(Current { version: Some(latest), silent: Some(Refusal::new(reason, remedy)) })
    }

    async fn plan(&self, version: &Version, verb: Verb, current: Current) -> Result<Plan, Error> {
        let Current { version: current, silent } = current;
        if let Some(listed) = self.listed().await?
            && !listed.contains(version)
        {
            let error = format!("version `{version}` does not exist or is incomplete");
            return Err(Error::new(ErrorKind::IncompleteVersion, error)
                .remedy(format!("complete versions: {}", names(&listed))));
        }
        let mut plan = headed(verb, version, current.as_ref(), Care::Gate, self.0.deadline);
        if current.as_ref() == Some(version) && silent.is_none() {
            return Ok(is_well(plan, version));
        }
        let (v, before) = (|| version.clone(), current.clone());
        let stages = &self.0.stages;
        let hooks = |when| stages.hooks(when, version).into_iter().map(S::Stage);
        let mut changes: Vec<_> = stages.preflight(version).into_iter().map(S::Stage).collect();
        changes.push(S::ExpectCurrent { current });
        if !self.0.dry_run.is_empty() {
            changes.push(S::Rehearse { version: v(), verb });
        }
        changes.extend(hooks(When::BeforeStart));
        if verb == Verb::Deploy {
            changes.extend(stages.migrate(version).into_iter().map(S::Stage));
        }
        changes.extend(hooks(When::BeforeSwitch));
        let heard = silent.is_none();
        changes.push(S::Bring { version: v(), verb, before: before.clone(), heard });
        let guards = crate::gate::guard_names(&self.0.guards);
        changes.push(S::Confirm { version: v(), guards });
        changes.extend(hooks(When::AfterSwitch));
        changes.extend(stages.bake(version).map(S::Stage));
        changes.push(S::RecordHistory { version: v(), verb, before });
        for step in &changes {
            plan = plan.change(self, step)?;
        }
        for step in hooks(When::AfterCommit) {
            plan = plan.finisher(self, &step)?;
        }
        Ok(plan)
    }

    async fn plan_back(&self, to: Option<Version>, across: bool) -> Result<Plan, Error> {
        let current = self.current().await?;
        let history = self.recorded().await?;
        let to = match (to, &current.version) {
            (Some(to), _) => to,
            (None, Some(current)) => {
                let way = history.way_back();
                let previous = way.into_iter().find(|version| *version != current).cloned();
                previous.ok_or_else(|| {
                    Error::new(ErrorKind::NoPrevious, "there is no previous version")
                        .with("current", current)
                        .remedy("name the version to go back to")
                })?
            }
            (None, None) => return Err(nothing_in_service()),
        };
        let across = way_across(&history, &to, across)?;
        Ok(crossing(self.plan(&to, Verb::Rollback, current).await?, across))
    }
}

impl Target for Provider {
    fn name(&self) -> String {
        ops_core::Resource::id(self).to_string()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }

    /// What a provider runs besides the version in service is not seen: `running` is empty.
    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        async move {
            let Current { version, silent } = self.current().await?;
            let current = version.filter(|_| silent.is_none());
            let (contradictions, versions) = (silent.into_iter().collect(), self.versions().await?);
            Ok(Observed { current, contradictions, running: Vec::new(), versions })
        }
        .boxed()
    }

    /// What the tool does not list, it may know all the same.
    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>> {
        async move {
            let current = self.current().await?;
            let current = current.version.filter(|_| current.silent.is_none());
            let known = self.versions().await?.into_iter().map(|version| {
                let in_service = current.as_ref() == Some(&version);
                Known { version, lacking: Vec::new(), made: None, runs: in_service, in_service }
            });
            Ok(known.collect())
        }
        .boxed()
    }

    fn history(&self) -> BoxFuture<'_, Result<History, Error>> {
        self.recorded().boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        async move {
            if let Some(listed) = self.listed().await? {
                return Ok(listed);
            }
            let mut versions = Vec::new();
            for entry in self.recorded().await?.entries().iter().rev() {
                if !versions.contains(&entry.version) {
                    versions.push(entry.version.clone());
                }
            }
            versions.reverse();
            Ok(versions)
        }
        .boxed()
    }

    fn plan_deploy<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Plan, Error>> {
        async move {
            let mut current = self.current().await?;
            // It may be in service without a record.
            if current.version.is_none() && self.answers_as(version).await {
                current.version = Some(version.clone());
            }
            self.plan(version, Verb::Deploy, current).await
        }
        .boxed()
    }

    fn plan_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, false).boxed()
    }

    /// The same as a rollback: without a probe's word nothing of what a tool did is known.
    fn plan_emergency_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        async move { Ok(self.plan_back(to, false).await?.fact("emergency", true)) }.boxed()
    }

    fn plan_rollback_across_migrations(
        &self,
        to: Option<Version>,
    ) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, true).boxed()
    }
}
