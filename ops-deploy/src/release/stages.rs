//! The stages on this machine.

use futures::FutureExt as _;
use ops_core::probe::AllOf;
use ops_core::{StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use crate::error::Error;
use crate::stages::{Counted, Staged, Stages, Watched};

impl Staged for ReleaseDirectory {
    fn stages(&self) -> &Stages {
        &self.0.stages
    }

    /// The kernel's lock on the folder excludes others, for as long as this process lives.
    async fn hold(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn complete(&self, version: &Version) -> Result<Result<(), Error>, StepError> {
        let (site, version) = (self.clone(), version.clone());
        let look = move || {
            if site.lacking(&version).is_empty() { Ok(()) } else { Err(site.incomplete(&version)) }
        };
        tokio::task::spawn_blocking(look).await.map_err(|join| {
            StepError::permanent(format!("looking at the release panicked: {join}"))
        })
    }

    async fn watched(&self, version: &Version, cx: &StepContext) -> Result<Watched<'_>, StepError> {
        let placement = Placement::known(version, cx)?;
        let direct = self.0.service.health_url(placement.address);
        let public = self.public_health_url();
        let asked = public.is_some();
        let probe = self.0.service.probe(&public.unwrap_or(direct), version);
        let timed =
            AllOf::new("the service", self.0.gate.timeout).probe(probe.named("the service"));
        let guards = AllOf::new("the guards", self.0.gate.timeout);
        let guards = self.0.guards.iter().cloned().fold(guards, AllOf::shared);
        let counted = self.0.traffic.as_deref().map(|traffic| Counted {
            service: "the service".to_owned(),
            traffic,
            upstream: placement.upstream(),
            asked,
        });
        let (site, cx, instance) = (self.clone(), cx.clone(), placement.instance);
        let look = move || {
            let runs = site.still_runs(Some(&instance), &cx);
            async move { Ok(runs.await?.err().into_iter().collect()) }.boxed()
        };
        let counted = counted.into_iter().collect();
        Ok(Watched { timed, guards, counted, look: Box::new(look) })
    }
}
