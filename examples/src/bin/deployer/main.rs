//! Deploys releases of a service on this machine: `deployer --config shop.toml deploy 1a2b3c4`,
//! `deployer --config shop.toml rollback`. The configuration's format is in `config.rs`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look.

mod config;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ops_core::Version;
use ops_deploy::Target;
use ops_examples::program::{Answer, CommonArgs, run};
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
        let world = site.world();
        match verb {
            Verb::Deploy { version } => {
                complete(&site, &version).await?;
                program.carry_out(site.plan_deploy(&version).await?, &*world).await
            }
            Verb::Rollback { version, emergency } => {
                let plan = if emergency {
                    site.plan_emergency_rollback(version).await?
                } else {
                    site.plan_rollback(version).await?
                };
                program.carry_out(plan, &*world).await
            }
            Verb::Cleanup => {
                program.carry_out(site.plan_cleanup(&program.cx).await?, &*world).await
            }
            Verb::Status => status(&site).await,
            Verb::Versions => {
                let versions = site.versions().await?;
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
