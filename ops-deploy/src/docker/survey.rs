//! Looks at an engine and its machine before an operation.

use std::path::Path;

use jiff::Timestamp;
use ops_core::{Classify as _, Refusal, StepContext, StepError, Version};

use super::engine::Engine;
use super::host::DockerHost;
use crate::error::Error;
use crate::preflight::{EngineFacts, Preflight};

impl Engine {
    /// What it says of itself, for containers that are bounded to so much memory together.
    async fn facts(&self, bounded: u64) -> Result<EngineFacts, Error> {
        let docker = self.docker().await?;
        let asked = Timestamp::now();
        let info = self.bounded("tell its state", self.deadline(), docker.info()).await?;
        let answered = Timestamp::now();
        let version = self.bounded("tell its version", self.deadline(), docker.version()).await?;
        let its: Option<Timestamp> = info.system_time.and_then(|text| text.parse().ok());
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let root = info.docker_root_dir.filter(|_| self.is_local());
        let disk = root.and_then(|root| ops_core::fs::space(Path::new(&root)).ok());
        Ok(EngineFacts {
            docker: version.version,
            api: version.api_version,
            cpus: count(info.ncpu),
            memory: count(info.mem_total),
            disk: disk.map(|disk| disk.available),
            // It looked at its clock between the two.
            times: its.map(|its| (its, its.clamp(asked, answered))),
            bounded,
        })
    }

    /// Everything that is not as a preflight wants it.
    pub(super) async fn survey(
        &self,
        preflight: &Preflight,
        bounded: u64,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let files = self.address().certificates();
        let (about_us, facts) =
            tokio::join!(preflight.findings(files, version, cx), self.facts(bounded));
        let mut findings = about_us?;
        match facts {
            Ok(facts) => findings.extend(preflight.engine_findings(self.host(), &facts)),
            Err(error) => {
                let said = crate::gate::plain(&ops_core::error::chain(&error).join(": "));
                let remedy = "see that the engine runs, and that this user may speak to it";
                findings.push(Refusal::new(said, remedy).class_of(error.class()));
            }
        }
        Ok(findings)
    }
}

impl DockerHost {
    pub(super) async fn surveyed(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let Some(preflight) = &self.0.stages.preflight else { return Ok(Vec::new()) };
        let bounds = self.0.services.iter().filter_map(|service| service.memory);
        let bounded = bounds.fold(0, u64::saturating_add);
        self.0.engine.survey(preflight, bounded, version, cx).await
    }
}
