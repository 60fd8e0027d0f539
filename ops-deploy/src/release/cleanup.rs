//! After the commit: the old instance ends, old releases go.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use ops_core::{StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::instance::Instance;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::fate::Use;
use crate::history::History;
use crate::open_journals::named_by_open_journals;
use crate::switching::drain;
use crate::traffic::Upstream;

/// A release on its way out. No version begins with a dot, so it is none any more.
const LEAVING: &str = ".leaving-";

impl ReleaseDirectory {
    /// Stops every instance but the one in service, and, if the previous one is to stay warm, that.
    pub(super) async fn stop_others(
        &self,
        version: &Version,
        warm: Option<&Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Placement { instance: ours, .. } = Placement::known(version, cx)?;
        self.has_the_traffic(&ours).await?;
        let site = self.clone();
        let instances = cx.blocking(move |_| site.instances()).await?;
        let stays_warm = instances
            .iter()
            .rfind(|instance| {
                Some(&instance.version) == warm && instance.runs() && instance.name != ours
            })
            .map(|instance| instance.name.clone());
        for instance in instances {
            if instance.name == ours
                || Some(&instance.name) == stays_warm.as_ref()
                || !instance.runs()
            {
                continue;
            }
            self.drain(&instance.upstream(), cx).await?;
            cx.fault_point("release: old instance drained");
            let site = self.clone();
            cx.blocking(move |cancel| {
                let folder = site.instance_path(&instance.name);
                site.0.manager.stop(&folder, site.0.service.stop_grace, cancel)
            })
            .await?;
        }
        Ok(())
    }

    /// Nobody switched the traffic since: else what is stopped here might be what serves.
    async fn has_the_traffic(&self, ours: &str) -> Result<(), Error> {
        let Some(traffic) = &self.0.traffic else { return Ok(()) };
        let now = traffic.current().await?;
        match now.upstream {
            Some(upstream) if upstream.instance == ours => Ok(()),
            other => {
                Err(Error::new(ErrorKind::Conflict, "the traffic does not go to the new instance")
                    .with(
                        "instance",
                        other.map_or("nothing".to_owned(), |upstream| upstream.instance),
                    )
                    .with("epoch", now.epoch)
                    .remedy(format!("see who switched it, point it to `{ours}`, then recover")))
            }
        }
    }

    /// Waits until an instance has answered what it has begun, or the time for it is over.
    pub(super) async fn drain(
        &self,
        upstream: &Upstream,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        match &self.0.traffic {
            Some(traffic) => drain(&**traffic, upstream, self.0.drain, cx).await,
            None => Ok(()),
        }
    }

    /// When each release was last of use. Blocks.
    pub(super) fn uses(&self, history: &History) -> Result<Vec<Use>, Error> {
        let mut uses = Vec::new();
        for version in self.folders()? {
            let served = history.0.iter().rev().find(|entry| entry.version == version);
            let made = || {
                let meta = std::fs::metadata(self.release_path(&version)).ok()?;
                Timestamp::try_from(meta.modified().ok()?).ok()
            };
            // Without a time it is young, and stays.
            let at = served.map(|entry| entry.at).or_else(made).unwrap_or_else(Timestamp::now);
            uses.push(Use { at, served: served.is_some(), version });
        }
        Ok(uses)
    }

    /// Removes old releases, and the folders of instances that nobody asks for any more.
    pub(super) async fn remove_releases(
        &self,
        old: &[Version],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let journals = cx.context().state_dir().to_owned();
        let (site, old, id) = (self.clone(), old.to_vec(), cx.operation());
        cx.blocking(move |cancel| {
            let mut stays = named_by_open_journals(&journals, &old, Some(id))?;
            stays.extend(site.linked()?);
            let running = site.instances()?.into_iter().filter(Instance::runs);
            stays.extend(running.map(|instance| instance.version));
            for old in old.iter().filter(|old| !stays.contains(old)) {
                if cancel.is_cancelled() {
                    break;
                }
                let path = site.release_path(old);
                if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                    // In one moment it is no release any more: half of one would look complete.
                    let leaving = site.releases_path().join(format!("{LEAVING}{old}"));
                    ops_core::fs::remove_dir_durable(&leaving)?;
                    ops_core::fs::rename_durable(&path, &leaving)?;
                    ops_core::fault::point("release: old release renamed");
                }
            }
            site.sweep_leaving()?;
            site.forget_instances()
        })
        .await
    }

    fn sweep_leaving(&self) -> Result<(), Error> {
        self.leaving()?.iter().try_for_each(|path| Ok(ops_core::fs::remove_dir_durable(path)?))
    }

    /// What an earlier clean-up has renamed, but not removed.
    fn leaving(&self) -> Result<Vec<PathBuf>, Error> {
        let path = self.releases_path();
        let failed = |error| Error::io("list", &path, error);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut leaving = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(LEAVING)) {
                leaving.push(entry.path());
            }
        }
        Ok(leaving)
    }

    /// Whether earlier operations left something that a clean-up removes. Blocks.
    pub(super) fn has_leftovers(&self) -> Result<bool, Error> {
        Ok(!self.leaving()?.is_empty() || !self.forgettable()?.is_empty())
    }

    fn forget_instances(&self) -> Result<(), Error> {
        self.forgettable()?
            .iter()
            .try_for_each(|name| Ok(ops_core::fs::remove_dir_durable(&self.instance_path(name))?))
    }

    /// The stopped instances but for the last one of each release that is still there, which is
    /// kept for its log.
    fn forgettable(&self) -> Result<Vec<String>, Error> {
        let (mut seen, mut forgettable) = (BTreeSet::new(), Vec::new());
        for instance in self.instances()?.into_iter().rev() {
            let last = seen.insert(instance.version.clone());
            let kept = last && self.release_path(&instance.version).is_dir();
            if !instance.runs() && !kept {
                forgettable.push(instance.name);
            }
        }
        forgettable.extend(self.unreadable_instances()?);
        Ok(forgettable)
    }
}
