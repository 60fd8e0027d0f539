//! Releases in a folder of this machine.

use std::time::Duration;

use ops_deploy::{ProxyClient, ReleaseDirectory, ServiceSpec};
use ops_examples::Failure;

use super::Config;
use super::parts::deadline;
use super::stages::{Stages, staged};
use crate::site::Site;

impl Config {
    pub(super) fn releases(self, stages: &Stages) -> Result<Site, Failure> {
        let (Some(root), Some(command)) = (self.root, self.command) else {
            let why = "the configuration names no target; give `root` and `command` for releases \
                       on this machine, or one of [docker], [swarm], [provider]";
            return Err(Failure::usage(why));
        };
        let mut service = ServiceSpec::new(command);
        for (name, value) in self.environment {
            service = service.env(name, value);
        }
        if let Some(path) = &self.health.path {
            service = service.health_path(path);
        }
        if let Some(identity) = self.health.identity()? {
            service = service.identity(identity);
        }
        let mut site = ReleaseDirectory::builder(root, service)
            .required_files(self.required_files)
            .gate(self.gate.gate());
        if let Some(proxy) = self.proxy {
            site = site.traffic(ProxyClient::new(proxy));
        }
        if let Some(url) = self.public_url {
            site = site.public_url(url);
        }
        if let Some(releases) = self.keep {
            site = site.keep(releases);
        }
        if self.keep_previous_warm {
            site = site.keep_previous_warm(true);
        }
        if let Some(deadline) = deadline(self.deadline_seconds, stages, Duration::from_mins(5)) {
            site = site.deadline(deadline);
        }
        let builds = stages.build.is_some();
        if let Some(build) = &stages.build {
            site = site.build_release(build.clone());
        }
        Ok(Site::Releases { releases: staged!(site, stages).build()?, builds })
    }
}
