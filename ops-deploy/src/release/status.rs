//! What is there: versions, instances, traffic, history.

use ops_core::{Refusal, Version};

use super::current::Testimony;
use super::directory::ReleaseDirectory;
use super::instance::Instance;
use crate::error::{Error, ErrorKind};
use crate::history::History;
use crate::planning::names;
use crate::traffic::Pointer;

/// What is there, as it was observed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The complete versions, oldest first.
    pub versions: Vec<Version>,
    /// The instances, running and stopped, newest last.
    pub instances: Vec<Instance>,
    /// Where the traffic goes; `None` if nothing moves it.
    pub pointer: Option<Pointer>,
    /// What was in service when; rebuilt by the next operation where the record is missing.
    pub history: Option<History>,
    pub(super) testimony: Testimony,
}

impl Status {
    /// The version in service; `None` if none is.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownCurrent`] if the symlink, the traffic and the history contradict each
    /// other; it lists what runs.
    pub fn current(&self) -> Result<Option<&Version>, Error> {
        self.testimony.agree().map_err(|contradictions: Vec<Refusal>| {
            let running: Vec<_> = self
                .instances
                .iter()
                .filter(|instance| instance.runs())
                .map(|instance| format!("{} at {}", instance.name, instance.address))
                .collect();
            let running =
                if running.is_empty() { "nothing".to_owned() } else { running.join(", ") };
            Error::new(ErrorKind::UnknownCurrent, "cannot determine the current version")
                .with("running", running)
                .with("complete", names(&self.versions))
                .refusals(contradictions)
        })
    }

    /// The instance that takes the traffic, or, without traffic, the newest running one of the
    /// version in service.
    pub fn in_service(&self) -> Option<&Instance> {
        if let Some(pointer) = &self.pointer {
            let upstream = pointer.upstream.as_ref()?;
            return self.instances.iter().find(|instance| instance.name == upstream.instance);
        }
        let current = self.testimony.link.as_ref()?;
        self.instances.iter().rfind(|instance| instance.runs() && instance.version == *current)
    }
}

impl ReleaseDirectory {
    /// Looks. Changes nothing.
    ///
    /// # Errors
    /// If something cannot be read, or the traffic's switch does not answer.
    pub async fn look(&self) -> Result<Status, Error> {
        let pointer = match &self.0.traffic {
            Some(traffic) => Some(traffic.current().await?),
            None => None,
        };
        let site = self.clone();
        let look = move || {
            let link = site.linked()?;
            let instances = site.instances()?;
            let history = History::read(&site.history_path())?;
            let upstream = pointer.as_ref().and_then(|pointer| pointer.upstream.as_ref());
            let known = upstream
                .and_then(|upstream| instances.iter().find(|i| i.name == upstream.instance));
            let traffic = known.map(|instance| instance.version.clone());
            let stranger = upstream.filter(|_| known.is_none()).map(|u| u.instance.clone());
            let latest = history.as_ref().and_then(|history| history.latest().cloned());
            let testimony = Testimony { link, traffic, stranger, history: latest };
            Ok(Status { versions: site.complete()?, instances, pointer, history, testimony })
        };
        tokio::task::spawn_blocking(look)
            .await
            .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))?
    }
}
