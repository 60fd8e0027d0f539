//! After the commit: the old instance ends, old releases go.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ops_core::{OperationId, StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::history::History;
use super::start::Placement;
use crate::error::Error;
use crate::traffic::Upstream;

const DRAIN_POLL: Duration = Duration::from_millis(20);
/// A release on its way out. No version begins with a dot, so it is none any more.
const LEAVING: &str = ".leaving-";

/// How long a release that never was in service is left alone: somebody may be about to deploy it.
const WAITING: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One release, and when it was last of use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    /// When it came into service last, or, if it never did, when it was made.
    at: Timestamp,
    version: Version,
    served: bool,
}

/// Which releases may go: not the one that comes, not the one that it replaces, not the `keep` that
/// were in service last; and not one that never was, until it has waited for long.
pub(super) fn removable(
    mut uses: Vec<Use>,
    comes: &Version,
    goes: Option<&Version>,
    keep: usize,
    now: Timestamp,
) -> Vec<Version> {
    uses.retain(|used| used.version != *comes && Some(&used.version) != goes);
    uses.sort_by(|a, b| b.cmp(a));
    let (served, waiting): (Vec<_>, Vec<_>) = uses.into_iter().partition(|used| used.served);
    let forgotten = waiting.into_iter().filter(|used| now.duration_since(used.at) > WAITING);
    let old = served.into_iter().skip(keep).chain(forgotten);
    let mut old: Vec<_> = old.map(|used| used.version).collect();
    old.sort();
    old
}

impl ReleaseDirectory {
    /// Stops every instance but the one in service, and, if the previous one is to stay warm, that.
    pub(super) async fn stop_others(
        &self,
        version: &Version,
        warm: Option<&Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Placement { instance: ours, .. } = Placement::known(version, cx)?;
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

    /// Waits until an instance has answered what it has begun, or the time for it is over.
    pub(super) async fn drain(
        &self,
        upstream: &Upstream,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(traffic) = &self.0.traffic else { return Ok(()) };
        let until = tokio::time::Instant::now() + self.0.drain;
        loop {
            let requests = traffic.in_flight(upstream).await?;
            if requests == 0 {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                tracing::warn!(target: "ops", requests, instance = upstream.instance, "requests are cut off");
                return Ok(());
            }
            cx.until_cancelled(tokio::time::sleep(DRAIN_POLL)).await?;
        }
    }

    /// Which releases a deployment leaves no place for. Blocks.
    pub(super) fn old_releases(
        &self,
        history: &History,
        comes: &Version,
        goes: Option<&Version>,
        now: Timestamp,
    ) -> Result<Vec<Version>, Error> {
        let mut uses = Vec::new();
        for version in self.folders()? {
            let served = history.0.iter().rev().find(|entry| entry.version == version);
            let made = || {
                let meta = std::fs::metadata(self.release_path(&version)).ok()?;
                Timestamp::try_from(meta.modified().ok()?).ok()
            };
            // Without a time it is young, and stays.
            let at = served.map(|entry| entry.at).or_else(made).unwrap_or(now);
            uses.push(Use { at, served: served.is_some(), version });
        }
        Ok(removable(uses, comes, goes, self.0.keep, now))
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
            let named = named_by_open_journals(&journals, &old, id)?;
            let current = site.linked()?;
            for old in
                old.iter().filter(|old| !named.contains(old) && current.as_ref() != Some(old))
            {
                if cancel.is_cancelled() {
                    break;
                }
                let path = site.release_path(old);
                if path.is_dir() {
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
        let path = self.releases_path();
        let failed = |error| Error::io("list", &path, error);
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(LEAVING)) {
                ops_core::fs::remove_dir_durable(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Of the stopped instances, the last one of each release that is still there is kept, for its
    /// log.
    fn forget_instances(&self) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for instance in self.instances()?.into_iter().rev() {
            let last = seen.insert(instance.version.clone());
            let kept = last && self.release_path(&instance.version).is_dir();
            if !instance.runs() && !kept {
                ops_core::fs::remove_dir_durable(&self.instance_path(&instance.name))?;
            }
        }
        Ok(())
    }
}

/// Which of these versions an unfinished operation of this state directory speaks of, our own one
/// left out. It reads journals as text: a version too many is kept rather than one too few.
fn named_by_open_journals(
    state_dir: &Path,
    versions: &[Version],
    but: OperationId,
) -> Result<BTreeSet<Version>, Error> {
    let folder = state_dir.join("journals/open");
    let failed = |error| Error::io("read the open journals in", &folder, error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let own = format!("{but}.jsonl");
    let mut named = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == own.as_str() {
            continue;
        }
        let text = match std::fs::read(entry.path()) {
            Ok(text) => text,
            // It was closed in this moment.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let text = String::from_utf8_lossy(&text);
        named.extend(versions.iter().filter(|version| text.contains(version.as_str())).cloned());
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_service_or_was_just_used_stays() {
        let v = |name: &str| -> Version { name.parse().unwrap() };
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(30 * 24);
        let day = |n: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(n * 24);
        let mut uses: Vec<_> = (1..=7)
            .map(|n| Use { at: day(n), version: v(&format!("v{n}")), served: true })
            .collect();
        uses.push(Use { at: day(22), version: v("forgotten"), served: false });
        uses.push(Use { at: day(24), version: v("waiting"), served: false });
        let check = |keep, expected: &[&str]| {
            let old = removable(uses.clone(), &v("v7"), Some(&v("v2")), keep, now);
            assert_eq!(old.iter().map(Version::as_str).collect::<Vec<_>>(), expected);
        };
        check(3, &["forgotten", "v1", "v3"]);
        check(0, &["forgotten", "v1", "v3", "v4", "v5", "v6"]);
        check(9, &["forgotten"]);
    }

    #[test]
    fn what_an_open_journal_names_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("journals/open");
        let (ours, other) = (OperationId::generate(), OperationId::generate());
        let versions: Vec<Version> = ["v1", "v2", "v3"].map(|name| name.parse().unwrap()).to_vec();
        assert!(named_by_open_journals(folder.path(), &versions, ours).unwrap().is_empty());
        std::fs::create_dir_all(&open).unwrap();
        std::fs::write(open.join(format!("{ours}.jsonl")), "v1 v2").unwrap();
        std::fs::write(open.join(format!("{other}.jsonl")), r#"{"path":"/releases/v3"}"#).unwrap();
        let named = named_by_open_journals(folder.path(), &versions, ours).unwrap();
        assert_eq!(named.iter().map(Version::as_str).collect::<Vec<_>>(), ["v3"]);
    }
}
