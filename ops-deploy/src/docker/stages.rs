//! Builds, migrations and commands of one's own between the stages.

use ops_core::{Refusal, StepContext, StepError, Version};

use super::host::DockerHost;
use super::releases::incomplete;
use crate::error::{Error, ErrorKind};
use crate::stages::{Hook, INCOMPATIBLE, Migration, When};

fn began(name: &str, when: When) -> String {
    format!("command {name} {when:?} began")
}

fn closes(version: &Version) -> String {
    format!("migration to {version} closes the way back")
}

impl DockerHost {
    /// The command of this name; why it is missing, if it is.
    pub(super) fn hook(&self, name: &str, when: When) -> Result<&Hook, Refusal> {
        let found = self.0.hooks.iter().find(|(at, hook)| *at == when && hook.name == name);
        found.map(|(_, hook)| hook).ok_or_else(|| {
            Refusal::new(
                format!("there is no command `{name}` any more"),
                "add it where the Docker host is set up, or plan again",
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

    pub(super) async fn run_hook(
        &self,
        name: &str,
        when: When,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let hook = self.known_hook(name, when)?;
        cx.observe(&began(name, when), async { Ok(true) }).await?;
        cx.fault_point("docker: command about to run");
        hook.run(version, &cx.into()).await?;
        cx.fault_point("docker: command ended");
        Ok(())
    }

    pub(super) async fn undo_hook(
        &self,
        name: &str,
        when: When,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if cx.noted::<bool>(&began(name, when))?.is_none() {
            return Ok(());
        }
        Ok(self.known_hook(name, when)?.run_undo(version, &cx.into()).await?)
    }

    /// Makes the images that are not there. What the command says is not believed: they must be.
    pub(super) async fn build(&self, version: &Version, cx: &StepContext) -> Result<(), StepError> {
        if self.is_complete(version).await?.is_ok() {
            return Ok(());
        }
        let build = self.0.build.as_ref().ok_or_else(|| {
            StepError::permanent(format!("nothing makes the images of {version} any more"))
                .remedy("plan again")
        })?;
        build.run(version, &cx.into()).await?;
        cx.fault_point("docker: images made");
        Ok(self.is_complete(version).await??)
    }

    async fn is_complete(&self, version: &Version) -> Result<Result<(), Error>, Error> {
        let releases = self.look().await?.releases;
        let whole = releases.iter().any(|it| it.version == *version && it.is_complete());
        Ok(if whole { Ok(()) } else { Err(incomplete(version, &releases)) })
    }

    fn migration(&self) -> Result<&Migration, StepError> {
        self.0.migration.as_ref().ok_or_else(|| {
            StepError::permanent("there is no migration any more").remedy("plan again")
        })
    }

    pub(super) async fn rehearse_migration(
        &self,
        version: &Version,
        allow_incompatible: bool,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let migration = self.migration()?;
        let Some(rehearsal) = &migration.rehearsal else { return Ok(()) };
        let output = rehearsal.ended(version, &cx.into()).await?;
        let closed = output.code == Some(INCOMPATIBLE);
        if !closed && !output.is_success() {
            let how = output.code.map_or("a signal".to_owned(), |code| format!("code {code}"));
            let error = format!("the rehearsal of the migration to {version} ended with {how}");
            return Err(Error::new(ErrorKind::Service, error)
                .with("output", crate::gate::plain(&output.stderr_text()))
                .into());
        }
        if closed && !allow_incompatible {
            let error = format!("after the migration to {version} the old version could not run");
            return Err(Error::new(ErrorKind::Gate, error)
                .remedy(
                    "split it: add first, take away with a later version; or allow it in the \
                     settings, and lose the way back",
                )
                .into());
        }
        cx.observe(&closes(version), async { Ok(closed) }).await?;
        Ok(())
    }

    pub(super) async fn migrate(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        self.hold_lock(cx).await?;
        cx.fault_point("docker: migration about to run");
        self.migration()?.run.run(version, &cx.into()).await?;
        cx.fault_point("docker: migration ended");
        Ok(())
    }

    /// The migration of this operation after which no earlier version can run, if there was one.
    pub(super) fn closes_way_back(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Option<String>, StepError> {
        let closed = cx.noted::<bool>(&closes(version))?.unwrap_or_default();
        Ok(self.0.migration.as_ref().filter(|_| closed).map(|it| it.run.name.clone()))
    }
}
