//! The stages on one engine.

use ops_core::{Refusal, StepContext, StepError, Version};

use super::host::DockerHost;
use super::releases;
use crate::error::Error;
use crate::stages::{Staged, Stages, Watched};

impl Staged for DockerHost {
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
        self.watched_by(version, cx)
    }
}
