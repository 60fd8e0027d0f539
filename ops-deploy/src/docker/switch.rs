//! Moves the traffic of one service.

use ops_core::{StepContext, StepError, Version};

use super::host::DockerHost;
use super::start::Placement;
use crate::switching::{switch_back, switch_to};

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
        let Some(traffic) = self.service(service).and_then(|spec| spec.traffic.as_ref()) else {
            return Err(StepError::permanent(format!("nothing moves the traffic of `{service}`"))
                .remedy("plan again"));
        };
        let to = Placement::known(service, version, cx)?;
        self.hold_lock(cx).await?;
        switch_to(&**traffic, &key(service, version), &to, cx).await
    }

    pub(super) async fn switch_traffic_back(
        &self,
        service: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(traffic) = self.service(service).and_then(|spec| spec.traffic.as_ref()) else {
            return Err(StepError::permanent(format!("nothing moves the traffic of `{service}`"))
                .remedy("recover with the settings with which the operation began"));
        };
        let ours = Placement::upstream(service, version, cx)?;
        switch_back(&**traffic, &key(service, version), ours, cx).await
    }
}
