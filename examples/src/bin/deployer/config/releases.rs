//! Releases in a folder of this machine.

use ops_deploy::{ProxyClient, ReleaseDirectory, ServiceSpec};
use ops_examples::Failure;

use super::Config;
use crate::site::Site;

impl Config {
    pub(super) fn releases(self) -> Result<Site, Failure> {
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
        Ok(Site::Releases(site.build()?))
    }
}
