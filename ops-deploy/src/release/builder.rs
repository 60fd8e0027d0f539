//! How a release directory is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::Probe;
use url::Url;

use super::directory::{ReleaseDirectory, Settings};
use crate::error::Error;
use crate::gate::Gate;
use crate::service::{Detached, ServiceManager, ServiceSpec};
use crate::set_up::{Reasons, setters};
use crate::stages::{Hook, Stages};
use crate::traffic::TrafficSwitch;

/// Sets up a [`ReleaseDirectory`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct ReleaseDirectoryBuilder(pub(super) Settings);

impl ReleaseDirectoryBuilder {
    pub(super) fn new(root: PathBuf, service: ServiceSpec) -> Self {
        Self(Settings {
            root,
            service,
            manager: Arc::new(Detached::new()),
            traffic: None,
            public: None,
            gate: Gate::default(),
            required_files: Vec::new(),
            keep: 3,
            keep_warm: false,
            drain: Duration::from_secs(15),
            deadline: Duration::from_mins(5),
            guards: Vec::new(),
            stages: Stages::default(),
        })
    }

    /// What runs the service. Default: [`Detached`].
    pub fn manager(mut self, manager: impl ServiceManager + 'static) -> Self {
        self.0.manager = Arc::new(manager);
        self
    }

    /// What moves the traffic. Default: nothing, for a service that takes none (a worker).
    pub fn traffic(mut self, traffic: impl TrafficSwitch + 'static) -> Self {
        self.0.traffic = Some(Arc::new(traffic));
        self
    }

    /// The address under which the public reaches the service, without the health path. It is
    /// asked after the switch, and by [`ReleaseHealth`](super::ReleaseHealth). Default: none.
    pub fn public_url(mut self, url: Url) -> Self {
        self.0.public = Some(url);
        self
    }

    setters!(gate: "When a new instance is good enough.");

    /// Adds a probe that must be healthy, too, before a new instance takes traffic: in the same
    /// rounds, within the same [`Gate`]. A journal knows it by its name, which must be its own;
    /// a plan that names a guard is refused where there is none of that name. `recover` needs no
    /// guards, as going back asks none. Default: none.
    pub fn guard(mut self, probe: Arc<dyn Probe>) -> Self {
        self.0.guards.push(probe);
        self
    }

    /// Files that a complete release has, relative to its folder. Default: none, so a release is
    /// complete when its folder is there: whoever fills it renames it into place.
    pub fn required_files<P: Into<PathBuf>>(mut self, files: impl IntoIterator<Item = P>) -> Self {
        self.0.required_files = files.into_iter().map(Into::into).collect();
        self
    }

    setters!(keep: "How many releases that were in service are kept besides the current one and the \
        previous one. Those that never were wait for seven days. Default: 3.");
    setters!(keep_previous_warm: "Whether the previous version keeps running, out of traffic, so \
        that a rollback need not start it. Default: no.");
    setters!(drain: "How long an instance that goes may take for the requests that it has begun; \
        what is left then is cut off. Together with the service's \
        [`stop_grace`](ServiceSpec::stop_grace) it should fit into the context's budget for \
        finishers (30 s), else `recover` ends the operation. Default: 15 s.");
    setters!(deadline: "5 min");
    setters!(stages);

    /// The command that makes the release of a version which is not complete: the folder
    /// `releases/{version}`, which it renames into place when it is whole. It stays, also when the
    /// operation goes back. Default: none, and such a version is refused.
    pub fn build_release(mut self, build: Hook) -> Self {
        self.0.stages.build = Some(build);
        self
    }

    /// The release directory. Its root must exist; blocks for a moment.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) with every reason at once.
    pub fn build(mut self) -> Result<ReleaseDirectory, Error> {
        let mut reasons = Reasons::default();
        reasons.extend(self.0.service.check());
        let remedy = "give the folder that holds `releases` and `current`";
        reasons.folder("root", &mut self.0.root, remedy);
        reasons.gate(&self.0.gate);
        if let Some(url) = &self.0.public
            && !matches!(url.scheme(), "http" | "https")
        {
            reasons.add(
                format!("the public address `{url}` is no web address"),
                "begin it with http:// or https://",
            );
        }
        reasons.extend(crate::gate::nameless(&self.0.guards));
        reasons.extend(self.0.stages.check(self.0.deadline));
        for file in &self.0.required_files {
            let plain = file.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if !plain || file.as_os_str().is_empty() {
                reasons.add(
                    format!("the required file `{}` is not inside the release", file.display()),
                    "give a path relative to the release's folder, without `..`",
                );
            }
        }
        reasons.none("the release directory")?;
        Ok(ReleaseDirectory(Arc::new(self.0)))
    }
}
