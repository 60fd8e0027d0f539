//! Whether an instance is good enough: it is the right version, several times in a row.

use ops_core::{StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::service::{Liveness, log_tail};

impl ReleaseDirectory {
    /// Asks the new instance itself, not yet through the traffic.
    pub(super) async fn pass_gate(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let placement = Placement::known(version, cx)?;
        let url = self.0.service.health_url(placement.address);
        self.be_sure(&url, version, Some(&placement.instance), cx).await
    }

    /// Asks the public address, through whatever lies before the service.
    pub(super) async fn verify_public(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(url) = self.public_health_url() else { return Ok(()) };
        self.be_sure(&url, version, None, cx).await
    }

    pub(super) fn public_health_url(&self) -> Option<String> {
        let public = self.0.public.as_ref()?;
        Some(format!("{}{}", public.as_str().trim_end_matches('/'), self.0.service.health_path))
    }

    async fn be_sure(
        &self,
        url: &str,
        version: &Version,
        instance: Option<&str>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let gate = &self.0.gate;
        let failed = |why: String| {
            let log = instance.map(|name| self.0.service.log_path(&self.instance_path(name)));
            let error = Error::new(ErrorKind::Gate, format!("{version} does not pass: {why}"))
                .with("url", url);
            match log.and_then(|path| log_tail(&path)) {
                Some(tail) => error.with("log", tail),
                None => error,
            }
        };
        let mut right = 0;
        let mut last = "nobody was asked".to_owned();
        let asking = async {
            loop {
                if let Some(name) = instance {
                    let (site, name) = (self.clone(), name.to_owned());
                    let look = move |_: &_| site.0.manager.liveness(&site.instance_path(&name));
                    if let Liveness::Stopped | Liveness::Orphans = cx.blocking(look).await? {
                        return Err(StepError::from(failed(format!("it has ended; {last}"))));
                    }
                }
                match self.0.asker.ask(url, &self.0.service.identity, version, gate.timeout).await {
                    Ok(()) => {
                        right += 1;
                        if right >= gate.consecutive {
                            return Ok(());
                        }
                        "too few right answers".clone_into(&mut last);
                    }
                    Err(why) => (right, last) = (0, why),
                }
                tokio::time::sleep(gate.interval).await;
            }
        };
        let outcome = cx.until_cancelled(tokio::time::timeout(gate.deadline, asking)).await?;
        outcome
            .unwrap_or_else(|_| Err(failed(format!("{last} (after {:?})", gate.deadline)).into()))
    }
}
