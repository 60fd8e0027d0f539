//! Moves the traffic of one service.

use ops_core::{StepContext, StepError, Version};

use super::host::DockerHost;
use super::start::Placement;
use crate::switching::{switch_back, switch_to};
use crate::traffic::TrafficSwitch;

fn key(service: &str, version: &Version) -> String {
    format!("traffic of {service} before {version}")
}

impl DockerHost {
    pub(super) async fn switch_traffic(
        &self,
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let traffic = self.traffic(service, "plan again")?;
        let to = Placement::known(service, version, cx)?;
        self.hold_lock(cx).await?;
        switch_to(traffic, &key(service, version), &to, cx).await
    }

    pub(super) async fn switch_traffic_back(
        &self,
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let remedy = "recover with the settings with which the operation began";
        let traffic = self.traffic(service, remedy)?;
        let ours = Placement::upstream(service, version, cx)?;
        switch_back(traffic, &key(service, version), ours, cx).await
    }

    /// What moves the traffic of a service that has any.
    fn traffic(
        &self,
        service: &str,
        remedy: &'static str,
    ) -> Result<&dyn TrafficSwitch, StepError> {
        let found = self.service(service).and_then(|spec| spec.traffic.as_deref());
        found.ok_or_else(|| {
            StepError::permanent(format!("nothing moves the traffic of `{service}`")).remedy(remedy)
        })
    }
}
