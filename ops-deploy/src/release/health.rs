//! Whether the public hears the version that is in service.

use ops_core::Version;

use super::directory::ReleaseDirectory;
use crate::error::{Error, ErrorKind};

/// Asks the public address whether it answers as the version that is in service; where the site
/// has no public address, the instance in service is asked.
///
/// It guards other operations, and tells a monitor when something else answers than what was
/// deployed.
#[derive(Debug, Clone)]
pub struct ReleaseHealth {
    site: ReleaseDirectory,
    name: String,
}

impl ReleaseDirectory {
    /// The probe of this site.
    pub fn health(&self) -> ReleaseHealth {
        ReleaseHealth { site: self.clone(), name: format!("release:{}", self.root().display()) }
    }
}

impl ReleaseHealth {
    /// Its name: `release:` and the site's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks once, for at most the gate's [`timeout`](crate::Gate::timeout); answers the version
    /// that is in service and well.
    ///
    /// # Errors
    /// [`ErrorKind::Gate`] if it is not well: nothing is in service, or something else answers.
    /// Any other kind means that this cannot be told.
    pub async fn check(&self) -> Result<Version, Error> {
        let unwell = |why: String| Error::new(ErrorKind::Gate, why);
        let settings = &self.site.0;
        let status = self.site.look().await?;
        let Some(current) = status.current()?.cloned() else {
            return Err(unwell("no version is in service".to_owned()).remedy("deploy one"));
        };
        let url = match (self.site.public_health_url(), status.in_service()) {
            (Some(url), _) => url,
            (None, Some(instance)) => settings.service.health_url(instance.address),
            (None, None) => return Err(unwell(format!("{current} does not run"))),
        };
        let asked =
            settings.asker.ask(&url, &settings.service.identity, &current, settings.gate.timeout);
        match asked.await {
            Ok(()) => Ok(current),
            Err(why) => Err(unwell(format!("{current} is in service, but {why}")).with("url", url)),
        }
    }
}
