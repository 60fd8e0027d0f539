//! The stages around a provider's tool.

use futures::FutureExt as _;
use ops_core::probe::AllOf;
use ops_core::{StepContext, StepError, Version};

use super::Provider;
use crate::error::Error;
use crate::stages::{Staged, Stages, Watched};

impl Staged for Provider {
    fn stages(&self) -> &Stages {
        &self.0.stages
    }

    /// The kernel's lock on the folder excludes others of this machine, and the tool what it will.
    async fn hold(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    /// Whether a version is whole is for the tool to say.
    async fn complete(&self, _: &Version) -> Result<Result<(), Error>, StepError> {
        Ok(Ok(()))
    }

    async fn watched(&self, version: &Version, _: &StepContext) -> Result<Watched<'_>, StepError> {
        let timed = AllOf::new("the public", self.0.gate.timeout).probe(self.probe(version));
        let guards = AllOf::new("the guards", self.0.gate.timeout);
        let guards = self.0.guards.iter().cloned().fold(guards, AllOf::shared);
        let look = || async { Ok(Vec::new()) }.boxed();
        Ok(Watched { timed, guards, counted: Vec::new(), look: Box::new(look) })
    }
}
