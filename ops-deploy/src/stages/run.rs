//! Runs the stages of a target, and takes them back.

use std::future::Future;
use std::time::Duration;

use ops_core::{Refusal, StepContext, StepError, Version};

use super::bake::Bake;
use super::hook::{Hook, When};
use super::migration::Migration;
use super::step::StageStep as S;
use super::watch::Watched;
use crate::error::{Error, ErrorKind};
use crate::planning::as_planned;
use crate::preflight::Preflight;

/// What a target does besides starting and switching.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    pub preflight: Option<Preflight>,
    pub build: Option<Hook>,
    pub hooks: Vec<(When, Hook)>,
    pub migration: Option<Migration>,
    pub bake: Option<Bake>,
}

/// A target that has stages.
pub(crate) trait Staged: Sync {
    fn stages(&self) -> &Stages;

    /// The error says who else holds the lock, where there is one.
    fn hold(&self, cx: &StepContext) -> impl Future<Output = Result<(), StepError>> + Send;

    /// The inner error says what the version lacks.
    fn complete(
        &self,
        version: &Version,
    ) -> impl Future<Output = Result<Result<(), Error>, StepError>> + Send;

    /// What is not as its preflight wants it.
    fn findings(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Vec<Refusal>, StepError>> + Send {
        async move {
            match &self.stages().preflight {
                Some(preflight) => preflight.findings(Vec::new(), version, cx).await,
                None => Ok(Vec::new()),
            }
        }
    }

    /// What its new version is watched by.
    fn watched(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Watched<'_>, StepError>> + Send;
}

fn began(name: &str, when: When) -> String {
    format!("command {name} {when:?} began")
}

fn migrating(version: &Version) -> String {
    format!("migration to {version} began")
}

fn closes(version: &Version) -> String {
    format!("migration to {version} closes the way back")
}

impl Stages {
    /// Every reason why they cannot be used by operations of this length.
    pub(crate) fn check(&self, deadline: Duration) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (n, (when, hook)) in self.hooks.iter().enumerate() {
            if self.hooks[..n].iter().any(|(at, other)| at == when && other.name == hook.name) {
                refusals.push(Refusal::new(
                    format!("two commands of one stage are named `{}`", hook.name),
                    "give each its own name, by which journals know it",
                ));
            }
        }
        refusals.extend(self.preflight.iter().flat_map(Preflight::check));
        refusals.extend(self.hooks.iter().flat_map(|(_, hook)| hook.check()));
        refusals.extend(self.build.iter().flat_map(Hook::check));
        refusals.extend(self.migration.iter().flat_map(Migration::check));
        refusals.extend(self.bake.iter().flat_map(|bake| bake.check(deadline)));
        refusals
    }

    /// The commands of one stage, as steps.
    pub(crate) fn hooks(&self, when: When, version: &Version) -> Vec<S> {
        let of_stage = self.hooks.iter().filter(|(at, _)| *at == when);
        let steps = of_stage.map(|(_, hook)| S::Hook {
            name: hook.name.clone(),
            when,
            version: version.clone(),
            undoable: hook.can_undo(),
        });
        steps.collect()
    }

    /// The migration, as steps.
    pub(crate) fn migrate(&self, version: &Version) -> Vec<S> {
        let Some(migration) = &self.migration else { return Vec::new() };
        let allow_incompatible = migration.allow_incompatible;
        let v = || version.clone();
        let rehearse = S::RehearseMigration { version: v(), allow_incompatible };
        let run = S::Migrate { version: v(), allow_incompatible };
        migration.rehearsal.iter().map(|_| rehearse.clone()).chain([run]).collect()
    }

    /// The watch, as a step.
    pub(crate) fn bake(&self, version: &Version) -> Option<S> {
        self.bake.as_ref().map(|_| S::Bake { version: version.clone() })
    }

    /// The command of this name; why it is missing, if it is.
    fn hook(&self, name: &str, when: When) -> Result<&Hook, Refusal> {
        let found = self.hooks.iter().find(|(at, hook)| *at == when && hook.name == name);
        found.map(|(_, hook)| hook).ok_or_else(|| {
            Refusal::new(
                format!("there is no command `{name}` any more"),
                "add it where the target is set up, or plan again",
            )
        })
    }

    fn known_hook(&self, name: &str, when: When) -> Result<&Hook, StepError> {
        self.hook(name, when).map_err(|missing| {
            Error::new(ErrorKind::InvalidConfig, "a command cannot be run")
                .refusals([missing])
                .into()
        })
    }

    fn known_migration(&self) -> Result<&Migration, StepError> {
        self.migration.as_ref().ok_or_else(|| {
            StepError::permanent("there is no migration any more").remedy("plan again")
        })
    }

    /// The preflight, as a step.
    pub(crate) fn preflight(&self, version: &Version) -> Option<S> {
        self.preflight.as_ref().map(|_| S::Preflight { version: version.clone() })
    }

    async fn rehearse(
        &self,
        version: &Version,
        allow_incompatible: bool,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let migration = self.known_migration()?;
        let closing = migration.rehearse(version, &cx.into()).await?;
        if !closing.is_empty() && !allow_incompatible {
            let error = format!("after the migration to {version} the old version could not run");
            return Err(Error::new(ErrorKind::Gate, error).refusals(closing).into());
        }
        let closes_it = !closing.is_empty();
        cx.observe(&closes(version), async { Ok(closes_it) }).await?;
        Ok(())
    }

    /// The migration of this operation after which no earlier version can run, if there was one.
    pub(crate) fn closes_way_back(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Option<String>, StepError> {
        let Some(migration) = &self.migration else { return Ok(None) };
        let closed = match cx.noted::<bool>(&closes(version))? {
            Some(closed) => closed,
            // Nobody has told.
            None => migration.allow_incompatible && migration.rehearsal.is_none(),
        };
        Ok(closed.then(|| migration.run.name.clone()))
    }
}

/// What speaks against a step before the operation begins.
pub(crate) async fn check<T: Staged>(
    step: &S,
    target: &T,
    cx: &StepContext,
) -> Result<Vec<Refusal>, StepError> {
    match step {
        S::Preflight { version } => target.findings(version, cx).await,
        S::Hook { name, when, .. } => {
            Ok(target.stages().hook(name, *when).err().into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Goes forward.
pub(crate) async fn run<T: Staged>(
    step: &S,
    target: &T,
    cx: &StepContext,
) -> Result<(), StepError> {
    let stages = target.stages();
    match step {
        S::Preflight { version } => as_planned(target.findings(version, cx).await?),
        S::Build { version } => build(target, version, cx).await,
        S::Hook { name, when, version, .. } => {
            let hook = stages.known_hook(name, *when)?;
            if *when != When::AfterCommit {
                target.hold(cx).await?;
            }
            cx.observe(&began(name, *when), async { Ok(true) }).await?;
            cx.fault_point("stage: command about to run");
            hook.run(version, &cx.into()).await?;
            cx.fault_point("stage: command ended");
            Ok(())
        }
        S::RehearseMigration { version, allow_incompatible } => {
            stages.rehearse(version, *allow_incompatible, cx).await
        }
        S::Migrate { version, .. } => {
            target.hold(cx).await?;
            cx.observe(&migrating(version), async { Ok(true) }).await?;
            cx.fault_point("stage: migration about to run");
            stages.known_migration()?.run.run(version, &cx.into()).await?;
            cx.fault_point("stage: migration ended");
            Ok(())
        }
        S::Bake { version } => {
            let Some(bake) = &stages.bake else { return Ok(()) };
            bake.watch(version, target.watched(version, cx).await?, cx).await
        }
    }
}

/// Goes back.
pub(crate) async fn undo<T: Staged>(
    step: &S,
    target: &T,
    cx: &StepContext,
) -> Result<(), StepError> {
    match step {
        S::Hook { name, when, version, undoable: true } => {
            if cx.noted::<bool>(&began(name, *when))?.is_none() {
                return Ok(());
            }
            Ok(target.stages().known_hook(name, *when)?.run_undo(version, &cx.into()).await?)
        }
        S::Migrate { version, allow_incompatible: true } => {
            if cx.noted::<bool>(&migrating(version))?.is_none() {
                return Ok(());
            }
            unmigrate(target.stages(), version, cx).await
        }
        _ => Ok(()),
    }
}

/// The old version was said not to run on what the migration has made, or has begun to make.
async fn unmigrate(stages: &Stages, version: &Version, cx: &StepContext) -> Result<(), StepError> {
    let Some(name) = stages.closes_way_back(version, cx)? else { return Ok(()) };
    let migration = &stages.known_migration()?.run;
    if migration.can_undo() {
        return Ok(migration.run_undo(version, &cx.into()).await?);
    }
    let why = format!(
        "the migration `{name}` to {version} has begun, and the old version was said not to run after it"
    );
    Err(StepError::permanent(why).remedy(
        "the old version is in service: see whether it is well, take the migration back by hand, then \
         close this operation (`ops_core::operations::resolve`); or close it and deploy forward",
    ))
}

/// Makes what is not there. What the command says is not believed: it must be.
async fn build<T: Staged>(
    target: &T,
    version: &Version,
    cx: &StepContext,
) -> Result<(), StepError> {
    if target.complete(version).await?.is_ok() {
        return Ok(());
    }
    let build = target.stages().build.as_ref().ok_or_else(|| {
        StepError::permanent(format!("nothing builds {version} any more")).remedy("plan again")
    })?;
    build.run(version, &cx.into()).await?;
    cx.fault_point("stage: built");
    Ok(target.complete(version).await??)
}
