//! The release directory itself: where things lie, and what it is as a resource.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::Probe;
use ops_core::{Resource, ResourceId, Version};
use url::Url;

use super::builder::ReleaseDirectoryBuilder;
use super::step::ReleaseStep;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::planning::names;
use crate::service::{ServiceManager, ServiceSpec};
use crate::stages::Stages;
use crate::traffic::TrafficSwitch;

/// A folder of releases whose service runs on this machine. Cheap to clone.
///
/// ```text
/// root/releases/<version>/           filled by somebody else's plan, such as an export from git
/// root/current -> releases/<version>
/// root/run/<version>-<operation>/    one instance: its lock, its process, its log
/// root/history.json
/// root/.ops-deploy.lock
/// ```
#[derive(Debug, Clone)]
pub struct ReleaseDirectory(pub(super) Arc<Settings>);

#[derive(Debug)]
pub(super) struct Settings {
    pub root: PathBuf,
    pub service: ServiceSpec,
    pub manager: Arc<dyn ServiceManager>,
    pub traffic: Option<Arc<dyn TrafficSwitch>>,
    pub public: Option<Url>,
    pub gate: Gate,
    pub required_files: Vec<PathBuf>,
    pub keep: usize,
    pub keep_warm: bool,
    pub drain: Duration,
    pub deadline: Duration,
    pub guards: Vec<Arc<dyn Probe>>,
    pub stages: Stages,
}

impl Resource for ReleaseDirectory {
    type Step = ReleaseStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("releases", self.0.root.display())
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.0.root.join(".ops-deploy.lock"))
    }
}

impl ReleaseDirectory {
    /// Sets up the releases of this folder, which run this service.
    pub fn builder(root: impl Into<PathBuf>, service: ServiceSpec) -> ReleaseDirectoryBuilder {
        ReleaseDirectoryBuilder::new(root.into(), service)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where the files of a version belong. Whoever fills it renames it into place when it is
    /// whole; it need not be there when a deployment is planned, but must when it runs.
    pub fn release_path(&self, version: &Version) -> PathBuf {
        self.releases_path().join(version.as_str())
    }

    pub(super) fn releases_path(&self) -> PathBuf {
        self.0.root.join("releases")
    }

    pub(super) fn current_path(&self) -> PathBuf {
        self.0.root.join("current")
    }

    pub(super) fn history_path(&self) -> PathBuf {
        self.0.root.join("history.json")
    }

    pub(super) fn run_path(&self) -> PathBuf {
        self.0.root.join("run")
    }

    pub(super) fn instance_path(&self, name: &str) -> PathBuf {
        self.run_path().join(name)
    }

    /// What a version lacks to be complete; empty if it is.
    pub(super) fn lacking(&self, version: &Version) -> Vec<String> {
        let folder = self.release_path(version);
        // A symlink is no release: what it leads to is changed and removed by somebody else.
        if !std::fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
            return vec![format!("its folder `{}`", folder.display())];
        }
        let missing = self.0.required_files.iter().filter(|file| !folder.join(file).exists());
        missing.map(|file| format!("`{}`", file.display())).collect()
    }

    /// All versions that have a folder, complete or not, sorted by the time of their folder,
    /// oldest first. Blocks.
    pub(super) fn folders(&self) -> Result<Vec<Version>, Error> {
        let path = self.releases_path();
        let failed = |error| Error::io("list", &path, error);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Some(version) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let meta = match entry.metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                meta => meta.map_err(failed)?,
            };
            if meta.is_dir() {
                found.push((meta.modified().ok(), version));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, version): (_, Version)| version).collect())
    }

    /// The complete versions, oldest first. Blocks.
    pub(super) fn complete(&self) -> Result<Vec<Version>, Error> {
        let mut versions = self.folders()?;
        versions.retain(|version| self.lacking(version).is_empty());
        Ok(versions)
    }

    /// Where `current` points, as it stands there. Blocks.
    pub(super) fn link(&self) -> Result<Option<PathBuf>, Error> {
        let path = self.current_path();
        match std::fs::read_link(&path) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read the symlink", &path, error)
                .remedy("`current` must be a symlink to a folder in `releases`, or absent")),
        }
    }

    /// The version that `current` names.
    pub(super) fn linked(&self) -> Result<Option<Version>, Error> {
        let Some(target) = self.link()? else { return Ok(None) };
        let named = self.0.root.join(&target);
        let inside = named.parent() == Some(&self.releases_path());
        let version = named.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok());
        version.filter(|_| inside).map(Some).ok_or_else(|| {
            Error::new(ErrorKind::UnknownCurrent, "`current` names no release")
                .with("target", target.display())
                .remedy("make it a symlink to `releases/<version>`")
        })
    }

    /// An error that names what is complete, for a version that is not.
    pub(super) fn incomplete(&self, version: &Version) -> Error {
        let lacking = self.lacking(version).join(", ");
        let error = Error::new(
            ErrorKind::IncompleteVersion,
            format!("version `{version}` does not exist or is incomplete: it lacks {lacking}"),
        );
        match self.complete() {
            Ok(versions) if versions.is_empty() => error.remedy("no version is complete"),
            Ok(versions) => error.remedy(format!("complete versions: {}", names(&versions))),
            Err(unknown) => error.caused_by(unknown),
        }
    }
}
