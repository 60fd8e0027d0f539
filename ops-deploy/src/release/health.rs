//! Whether the public hears the version that is in service.

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::probe::{Health, Probe, observe};

use super::directory::ReleaseDirectory;
use crate::error::Error;
use crate::gate::plain;

/// Asks the public address whether it answers as the version that is in service; where the site
/// has no public address, the instance in service is asked.
///
/// It guards other operations, and tells a monitor when something else answers than what was
/// deployed. It is unknown where the version in service cannot be told, and where nobody answers
/// within the gate's [`timeout`](crate::Gate::timeout).
#[derive(Debug, Clone)]
pub struct ReleaseHealth {
    site: ReleaseDirectory,
    name: String,
}

impl ReleaseDirectory {
    /// The probe of this site, `release:` and its folder by name.
    pub fn health(&self) -> ReleaseHealth {
        ReleaseHealth { site: self.clone(), name: format!("release:{}", self.root().display()) }
    }
}

impl ReleaseHealth {
    async fn ask(&self) -> Result<Health, Error> {
        let settings = &self.site.0;
        let status = self.site.look().await?;
        let Some(current) = status.current()?.cloned() else {
            return Ok(Health::unhealthy("no version is in service; deploy one"));
        };
        let url = match (self.site.public_health_url(), status.in_service()) {
            (Some(url), _) => url,
            (None, Some(instance)) => settings.service.health_url(instance.address),
            (None, None) => return Ok(Health::unhealthy(format!("{current} does not run"))),
        };
        let probe = settings.service.probe(&url, &current);
        let why = |reason: String| format!("{current} is in service, but {}", plain(&reason));
        Ok(match observe(&probe, settings.gate.timeout).await.health {
            Health::Healthy => Health::Healthy,
            Health::Unhealthy { reason } => Health::unhealthy(why(reason)),
            Health::Unknown { reason } => Health::unknown(why(reason)),
        })
    }
}

impl Probe for ReleaseHealth {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            self.ask().await.unwrap_or_else(|error| {
                Health::unknown(plain(&ops_core::error::chain(&error).join(": ")))
            })
        }
        .boxed()
    }
}
