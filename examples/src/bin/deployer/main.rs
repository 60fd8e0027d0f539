//! Deploys to release directories, Docker hosts, Swarms and providers:
//! `deployer --config shop.toml deploy 1a2b3c4`, `deployer --config shop.toml rollback`. The
//! configuration's format is in `config/mod.rs`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look.

mod config;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ops_core::Version;
use ops_deploy::Target;
use ops_examples::program::{Answer, CommonArgs, run, show};
use ops_examples::{Code, Failure};
use serde_json::json;

use config::Config;

/// Brings versions into service without losing a request, and takes them back.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The site, as TOML.
    #[arg(long, global = true, value_name = "FILE", env = "DEPLOYER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print what a deployment would do, as `deploy --dry-run` does; with --rollback, what going
    /// back would.
    Plan {
        /// The version; with --rollback it may be left out.
        #[arg(required_unless_present = "rollback")]
        version: Option<Version>,
        /// Plan to go back.
        #[arg(long)]
        rollback: bool,
    },
    /// Bring a version into service; its files must lie in the site's `releases`.
    Deploy {
        /// The version.
        version: Version,
    },
    /// Go back: to this version, or to the one before.
    Rollback {
        /// The version.
        version: Option<Version>,
        /// Without the gate: it is enough that the version takes connections.
        #[arg(long)]
        emergency: bool,
        /// Even where a migration has closed the way back: I have taken it back, or know better.
        #[arg(long, conflicts_with = "emergency")]
        across_migrations: bool,
    },
    /// Remove old releases; --dry-run lists them, and why each other one is kept.
    Cleanup,
    /// What is in service, and what runs.
    Status,
    /// The complete versions, oldest first.
    Versions,
    /// Bring what was interrupted to its end.
    Recover,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { config, common, verb } = Args::parse();
    run("deployer", common, async |program| {
        let path = config.ok_or_else(|| {
            Failure::usage("give --config, or set DEPLOYER_CONFIG to the site's TOML file")
        })?;
        let site = Config::read(&path)?.site()?;
        let target = site.target();
        let world = target.world();
        match verb {
            Verb::Plan { version: Some(version), rollback: false } => {
                if site.must_be_listed() {
                    complete(target, &version).await?;
                }
                Ok(show(&target.plan_deploy(&version).await?))
            }
            Verb::Plan { version, .. } => Ok(show(&target.plan_rollback(version).await?)),
            Verb::Deploy { version } => {
                if site.must_be_listed() {
                    complete(target, &version).await?;
                }
                program.carry_out(target.plan_deploy(&version).await?, &*world).await
            }
            Verb::Rollback { version, emergency, across_migrations } => {
                let plan = if emergency {
                    target.plan_emergency_rollback(version).await?
                } else if across_migrations {
                    site.plan_rollback_across(version).await?
                } else {
                    target.plan_rollback(version).await?
                };
                program.carry_out(plan, &*world).await
            }
            Verb::Cleanup => {
                program.carry_out(site.plan_cleanup(&program.cx).await?, &*world).await
            }
            Verb::Status => status(target).await,
            Verb::Versions => {
                let versions = target.versions().await?;
                let names: Vec<_> = versions.iter().map(Version::as_str).collect();
                Ok(Answer::new(names.join("\n"), json!({"versions": versions})))
            }
            Verb::Recover => program.recover(&*world).await,
        }
    })
    .await
}

async fn status(site: &dyn Target) -> Result<Answer, Failure> {
    let seen = site.status().await?;
    let current = seen.current.as_ref().map_or("nothing", |version| version.as_str());
    let mut lines = vec![format!("in service: {current}")];
    lines.extend(seen.contradictions.iter().map(|reason| format!("cannot be told: {reason}")));
    let mut running = Vec::new();
    for it in &seen.running {
        let mark = if it.in_traffic { ", takes the traffic" } else { "" };
        lines.push(format!("runs: {} at {}{mark}", it.version, it.address));
        running.push(json!({
            "name": it.name,
            "version": it.version,
            "address": it.address,
            "in_traffic": it.in_traffic,
        }));
    }
    let json = json!({
        "current": seen.current,
        "contradictions": seen.contradictions,
        "running": running,
        "versions": seen.versions,
    });
    Ok(Answer::new(lines.join("\n"), json))
}

/// In a composition an earlier step may write the release; here it must be there already.
async fn complete(site: &dyn Target, version: &Version) -> Result<(), Failure> {
    let versions = site.versions().await?;
    if versions.contains(version) {
        return Ok(());
    }
    let names: Vec<_> = versions.iter().map(Version::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let why = format!("version `{version}` does not exist or is incomplete (complete: {names})");
    Err(Failure::new(Code::Refused, why))
}
