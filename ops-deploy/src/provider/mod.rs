//! A provider's tool, or a script of one's own, as a target: a command for each verb.
//!
//! A command that ends with 0 proves nothing: the deployment has succeeded when a probe confirms
//! that the public hears the new version, several times in a row. A command that did not end in
//! time is in doubt until the probe says.

mod builder;
mod commands;
mod plan;
mod stages;
mod step;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::probe::Probe;
use ops_core::process::Runner;
use ops_core::{Resource, ResourceId, Secret};

pub use builder::ProviderBuilder;
pub use step::ProviderStep;

use crate::gate::Gate;
use crate::service::Identity;
use crate::stages::Stages;

/// An application that a provider runs, by the provider's commands. Cheap to clone.
///
/// What it cannot do: exclude a deployer on another machine (the provider must), and say what runs
/// besides the version in service.
///
/// ```no_run
/// use ops_core::{Context, Environment};
/// use ops_deploy::{Provider, Target};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let site = Provider::builder("shop", "/var/lib/shop", "https://shop.example".parse()?)
///     .deploy(["deploy-tool", "publish", "--build-env", "VERSION={version}"])
///     .rollback(["deploy-tool", "promote", "{version}"])
///     .dry_run(["--dry-run"])
///     .build()?;
/// let cx = Context::builder("/var/lib/ops").environment(Environment::Staging).build();
/// site.deploy(&cx, &"1a2b3c4".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Provider(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    name: String,
    folder: PathBuf,
    deploy: Vec<String>,
    rollback: Vec<String>,
    remove: Vec<String>,
    versions: Vec<String>,
    dry_run: Vec<String>,
    public: url::Url,
    health_path: String,
    identity: Identity,
    cwd: Option<PathBuf>,
    environment: Vec<(String, String)>,
    secrets: Vec<(String, Secret)>,
    inherit: Vec<String>,
    runner: Arc<dyn Runner>,
    command_deadline: Duration,
    gate: Gate,
    guards: Vec<Arc<dyn Probe>>,
    stages: Stages,
    deadline: Duration,
}

impl Resource for Provider {
    type Step = ProviderStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("provider", format_args!("{}#{}", self.0.folder.display(), self.0.name))
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.0.folder.join(format!(".{}.lock", self.0.name)))
    }
}

impl Provider {
    /// Sets up an application of this name, which the public reaches at this address; the folder
    /// holds its history, and must exist.
    pub fn builder(
        name: impl Into<String>,
        folder: impl Into<PathBuf>,
        public_url: url::Url,
    ) -> ProviderBuilder {
        ProviderBuilder::new(name.into(), folder.into(), public_url)
    }

    fn history_path(&self) -> PathBuf {
        self.0.folder.join(format!("{}.history.json", self.0.name))
    }
}
