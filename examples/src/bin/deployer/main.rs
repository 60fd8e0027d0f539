//! Deploys to release directories, Docker hosts, Swarms and providers:
//! `deployer --config shop.toml deploy 1a2b3c4`, `deployer --config shop.toml rollback`. The
//! configuration's format is in `config/mod.rs`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look.

mod config;
mod looks;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ops_core::Version;
use ops_deploy::Target;
use ops_examples::program::{CommonArgs, run, show};
use ops_examples::{Code, Failure};

use config::Secrets;

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
    /// back would. With --json: `plan`, whose steps have a name and an effect, and `digest`.
    Plan {
        /// The version; with --rollback it may be left out.
        #[arg(required_unless_present = "rollback")]
        version: Option<Version>,
        /// Plan to go back.
        #[arg(long)]
        rollback: bool,
    },
    /// Bring a version into service. With --json: `changed`, and the `report` of the operation.
    Deploy {
        /// The version: a folder in the site's `releases`, or the tag of its images.
        version: Version,
    },
    /// Go back: to this version, or to the one before. With --json as `deploy`.
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
    /// Go back without the gate, as `rollback --emergency`.
    Emergency {
        /// The version.
        version: Option<Version>,
    },
    /// Remove old releases; --dry-run lists them, and why each other one is kept. With --json the
    /// facts of the `plan` say so: `remove 1a2b3c4`, `keep 5d6e7f8`.
    #[command(alias = "cleanup")]
    Clean,
    /// What is in service, and what runs. With --json: `current`, `contradictions`, `running` (each
    /// with `name`, `version`, `address`, `in_traffic`) and `versions`. Where it cannot be told what is
    /// in service, the exit code is 5.
    Status,
    /// All versions that are known, oldest first: their age, whether they are complete, what they
    /// lack, and whether they run. With --json: `known`, and `versions`, the complete ones.
    #[command(alias = "versions")]
    List,
    /// What was in service when, oldest first. With --json: `history`, and `way_back`, the versions
    /// in the order in which rollbacks go.
    History,
    /// Who deploys now. With --json: `holder` (or null) of the lock on the engine, and the `open`
    /// operations of this state directory.
    Lock,
    /// Bring what was interrupted to its end. With --json: `recovered`, the reports, and `running`.
    Recover,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { config, common, verb } = Args::parse();
    run("deployer", common, async |program| {
        let path = config.ok_or_else(|| {
            Failure::usage("give --config, or set DEPLOYER_CONFIG to the site's TOML file")
        })?;
        let secrets = match &verb {
            Verb::Plan { .. } | Verb::Deploy { .. } | Verb::Rollback { emergency: false, .. } => {
                Secrets::Needed
            }
            _ => Secrets::IfThere,
        };
        let site = config::site(&path, program.bars.as_ref(), secrets)?;
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
            Verb::Emergency { version } | Verb::Rollback { version, emergency: true, .. } => {
                program.carry_out(target.plan_emergency_rollback(version).await?, &*world).await
            }
            Verb::Rollback { version, across_migrations, .. } => {
                let plan = if across_migrations {
                    target.plan_rollback_across_migrations(version).await?
                } else {
                    target.plan_rollback(version).await?
                };
                program.carry_out(plan, &*world).await
            }
            Verb::Clean => program.carry_out(site.plan_cleanup(&program.cx).await?, &*world).await,
            Verb::Status => looks::status(target).await,
            Verb::List => looks::list(target).await,
            Verb::History => looks::history(target).await,
            Verb::Lock => looks::lock(target, &program.cx).await,
            Verb::Recover => program.recover(&*world).await,
        }
    })
    .await
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
