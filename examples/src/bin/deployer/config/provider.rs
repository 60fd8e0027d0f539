//! A provider's tool, or a script of one's own.
//!
//! ```toml
//! [provider]
//! name = "shop"
//! state = "/var/lib/shop"                     # holds the history; must exist
//! public_url = "https://shop.example"         # must answer as the version, or it did not succeed
//! deploy = ["deploy-tool", "publish", "{version}"]
//! rollback = ["deploy-tool", "promote", "{version}"]  # else: deploy
//! remove = ["deploy-tool", "remove", "{version}"]     # the way back of a first deployment
//! versions = ["deploy-tool", "list"]          # else: any version can be deployed
//! dry_run = ["--dry-run"]                     # is added to the command, which is run so first
//! working_folder = "/srv/shop"
//! secrets = ["DEPLOY_TOKEN"]                  # variables of this process that the tool gets
//! command_deadline_seconds = 300
//! deadline_seconds = 1200                     # for an operation until its commit
//!
//! [provider.environment]                      # of the tool
//! REGION = "north"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ops_deploy::Provider;
use ops_examples::Failure;
use serde::Deserialize;
use url::Url;

use super::parts::{GateConfig, Health, Secrets, deadline};
use super::stages::{Stages, staged};
use crate::site::Site;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    name: String,
    state: PathBuf,
    public_url: Url,
    deploy: Vec<String>,
    #[serde(default)]
    rollback: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    dry_run: Vec<String>,
    working_folder: Option<PathBuf>,
    #[serde(default)]
    secrets: Vec<String>,
    command_deadline_seconds: Option<u64>,
    deadline_seconds: Option<u64>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

impl ProviderConfig {
    pub fn site(
        self,
        health: &Health,
        gate: &GateConfig,
        stages: &Stages,
        secrets: Secrets,
    ) -> Result<Site, Failure> {
        if stages.build.is_some() {
            let why =
                "a provider's tool builds by itself; make `[build]` a `[[hook]]` before_start";
            return Err(Failure::usage(why));
        }
        let any_version = self.versions.is_empty();
        let mut provider = Provider::builder(self.name, self.state, self.public_url)
            .deploy(self.deploy)
            .rollback(self.rollback)
            .remove(self.remove)
            .versions(self.versions)
            .dry_run(self.dry_run)
            .gate(gate.gate());
        if let Some(path) = &health.path {
            provider = provider.health_path(path);
        }
        if let Some(identity) = health.identity()? {
            provider = provider.identity(identity);
        }
        if let Some(folder) = self.working_folder {
            provider = provider.working_folder(folder);
        }
        for (name, value) in self.environment {
            provider = provider.env(name, value);
        }
        for (name, secret) in secrets.read(&self.secrets)? {
            provider = provider.secret_env(name, secret);
        }
        if let Some(seconds) = self.command_deadline_seconds {
            provider = provider.command_deadline(Duration::from_secs(seconds));
        }
        if let Some(deadline) = deadline(self.deadline_seconds, stages, Duration::from_mins(20)) {
            provider = provider.deadline(deadline);
        }
        Ok(Site::Provider { provider: staged!(provider, stages).build()?, any_version })
    }
}
