//! A change of your own that is undone when it fails, behind a backup: ops-backup, and a step that
//! you write.
//!
//! `cargo run --example guard_with_backup`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;

use ops_backup::{SourceSpec, Vault};
use ops_core::{Context, Effect, Environment, Resource, ResourceId, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

/// What is changed: a folder with a settings file.
struct Settings(PathBuf);

/// The change as a value: it knows the old text and the new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Replace {
    old: String,
    new: String,
}

impl Resource for Settings {
    type Step = Replace;

    fn id(&self) -> ResourceId {
        ResourceId::new("settings", self.0.display())
    }
}

impl Step for Replace {
    const FAMILY: &'static str = "settings";
    type Env = Settings;

    fn name(&self) -> &'static str {
        "replace"
    }

    fn effect(&self) -> Effect {
        Effect::changes(format!("replace the settings `{}` with `{}`", self.old, self.new))
    }

    async fn run(&self, env: &Settings, _: &StepContext) -> Result<(), StepError> {
        Ok(ops_core::fs::atomic_write(&env.0.join("settings"), self.new.as_bytes())?)
    }

    async fn undo(&self, env: &Settings, _: &StepContext) -> Result<(), StepError> {
        Ok(ops_core::fs::atomic_write(&env.0.join("settings"), self.old.as_bytes())?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let settings = Settings(dir.path().join("settings.d"));
    std::fs::create_dir(&settings.0)?;
    std::fs::write(settings.0.join("settings"), "colour = blue")?;
    let cx =
        Context::builder(dir.path().join("state")).environment(Environment::Development).build();
    let url = format!("file://{}", dir.path().join("backups").display());
    let vault = Vault::open_url(&url).await?;

    let step = Replace { old: "colour = blue".into(), new: "colour = green".into() };
    let change = ops_core::Plan::new("repaint").change(&settings, &step)?;
    let plan = vault.plan_backup("settings", &[SourceSpec::directory(&settings.0)])?.then(change);
    println!("{plan}");
    let report = cx.execute(plan, &(&vault, &settings)).await?;
    println!("{}: {}", report.operation, report.outcome.name());
    Ok(())
}
