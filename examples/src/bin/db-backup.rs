//! Backs databases and directories up: `db-backup --store file:///var/backups create --set nightly
//! --source sqlite:/srv/app/app.db`, then `... verify latest --set nightly`, and on the bad day
//! `... restore latest --set nightly --to sqlite:/srv/app/app.db`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look, also at a backup that is damaged.

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use ops_backup::{
    BackupId, Depth, Manifest, Place, RestoreOptions, RestoreStep, SourceSpec, Vault, open_store,
};
use ops_core::operations::{self, Which};
use ops_core::{Resource as _, World};
use ops_examples::program::{Answer, CommonArgs, Program, run};
use ops_examples::{Code, Failure};
use serde_json::{Value, json};

/// Backups that are listed only when they are whole, and restores that go back.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the backups lie: `file:///absolute/folder`.
    #[arg(long, global = true, value_name = "URL", env = "DB_BACKUP_STORE")]
    store: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a backup of these sources, all or none.
    Create {
        /// The set that it belongs to.
        #[arg(long)]
        set: String,
        /// `sqlite:/path/to/file` or `directory:/path`; may be given several times.
        #[arg(long, required = true, value_name = "URL")]
        source: Vec<SourceUrl>,
    },
    /// The backups of a set, oldest first.
    List {
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// Read every byte of a backup, and check it.
    Verify {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// Restore into a place; what is there is kept beside it. Stop who writes to it before.
    Restore {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// The set.
        #[arg(long)]
        set: String,
        /// `sqlite:/path/to/file` or `directory:/path`.
        #[arg(long, value_name = "URL")]
        to: SourceUrl,
        /// Which source, if the backup has several.
        #[arg(long, value_name = "URL")]
        component: Option<SourceUrl>,
        /// Let a backup of another source replace what is there.
        #[arg(long)]
        other_source: bool,
        /// Let a backup of another environment be restored.
        #[arg(long)]
        other_environment: bool,
    },
    /// Bring what was interrupted to its end.
    Recover,
}

/// A source as an argument.
#[derive(Debug, Clone)]
struct SourceUrl(SourceSpec);

impl FromStr for SourceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let absolute = |path: &str| {
            let path = path.strip_prefix("//").unwrap_or(path);
            std::path::absolute(path).map_err(|error| format!("`{text}` has no path: {error}"))
        };
        match text.split_once(':') {
            Some(("sqlite", path)) => Ok(Self(SourceSpec::sqlite(absolute(path)?))),
            Some(("directory", path)) => Ok(Self(SourceSpec::directory(absolute(path)?))),
            _ => Err("use `sqlite:/path/to/file` or `directory:/path`".to_owned()),
        }
    }
}

/// Which backup is meant.
#[derive(Debug, Clone)]
enum Wanted {
    Latest,
    This(BackupId),
}

impl FromStr for Wanted {
    type Err = ops_backup::Error;

    fn from_str(text: &str) -> Result<Self, ops_backup::Error> {
        if text == "latest" { Ok(Self::Latest) } else { text.parse().map(Self::This) }
    }
}

impl Wanted {
    async fn find(&self, vault: &Vault, set: &str) -> Result<Manifest, Failure> {
        match self {
            Self::This(id) => Ok(vault.show(set, *id).await?),
            Self::Latest => vault.latest(set).await?.ok_or_else(|| {
                Failure::new(Code::Refused, format!("set `{set}` has no backup; create one"))
            }),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { store, common, verb } = Args::parse();
    run("db-backup", common, async |program| {
        let store = store.ok_or_else(|| {
            Failure::usage("give --store, such as file:///var/backups, or set DB_BACKUP_STORE")
        })?;
        let vault = Vault::open(open_store(&store)?, &store).await?;
        match verb {
            Verb::Create { set, source } => create(program, &vault, &set, source).await,
            Verb::List { set } => list(&vault, &set).await,
            Verb::Verify { backup, set } => verify(&vault, &set, &backup).await,
            Verb::Restore { backup, set, to, component, other_source, other_environment } => {
                let mut options = RestoreOptions::default();
                options.component = component.map(|SourceUrl(component)| component);
                options.other_source = other_source;
                options.other_environment = other_environment;
                let id = backup.find(&vault, &set).await?.id;
                let place = vault.place(&to.0)?;
                let plan = vault.plan_restore(&set, id, &place, &options).await?;
                program.carry_out(plan, &&place).await
            }
            Verb::Recover => {
                let places = interrupted(program, &vault)?;
                let places: Vec<&Place> = places.iter().collect();
                let world: &dyn World = &places;
                program.recover(&(&vault, world)).await
            }
        }
    })
    .await
}

async fn create(
    program: &Program,
    vault: &Vault,
    set: &str,
    source: Vec<SourceUrl>,
) -> Result<Answer, Failure> {
    let sources: Vec<_> = source.into_iter().map(|SourceUrl(source)| source).collect();
    let plan = vault.plan_backup(set, &sources)?;
    let mut answer = program.carry_out(plan, &vault).await?;
    // The newest may be another program's, which was quicker.
    for id in vault.list(set).await?.into_iter().rev() {
        let manifest = vault.show(set, id).await?;
        if answer.json["report"]["id"] == json!(manifest.operation) {
            answer.text = format!("backup {id}: {} bytes", manifest.plain_size());
            answer.json["backup"] = describe(&manifest);
            break;
        }
    }
    Ok(answer)
}

async fn list(vault: &Vault, set: &str) -> Result<Answer, Failure> {
    let (mut lines, mut backups) = (Vec::new(), Vec::new());
    for id in vault.list(set).await? {
        let manifest = vault.show(set, id).await?;
        let (at, size) = (manifest.created_at, manifest.plain_size());
        lines.push(format!("{id} {at} {} {size} bytes", manifest.environment));
        backups.push(describe(&manifest));
    }
    Ok(Answer::new(lines.join("\n"), json!({"set": set, "backups": backups})))
}

async fn verify(vault: &Vault, set: &str, backup: &Wanted) -> Result<Answer, Failure> {
    let id = backup.find(vault, set).await?.id;
    let found = vault.verify(set, id, Depth::Full).await?;
    if !found.is_whole() {
        let problems = found.problems.join("; ");
        return Err(Failure::unexpected(format!("backup {id} is damaged: {problems}")));
    }
    let (objects, bytes) = (found.objects, found.bytes);
    let text = format!("backup {id} is whole: {objects} objects, {bytes} bytes");
    Ok(Answer::new(text, json!({"backup": id, "whole": true, "objects": objects, "bytes": bytes})))
}

fn describe(manifest: &Manifest) -> Value {
    let sources: Vec<_> = manifest.sources.iter().map(|s| s.source.to_string()).collect();
    json!({
        "id": manifest.id,
        "set": manifest.set,
        "created_at": manifest.created_at,
        "environment": manifest.environment,
        "bytes": manifest.plain_size(),
        "sources": sources,
    })
}

/// The places of restores that were interrupted, as their journals name them.
fn interrupted(program: &Program, vault: &Vault) -> Result<Vec<Place>, Failure> {
    let mut places: Vec<Place> = Vec::new();
    for operation in operations::list(&program.cx, Which::Open)?.0 {
        let mut kind = None;
        for step in operation.plan.steps().filter(|step| step.family == "restore") {
            match serde_json::from_value(step.step.clone())? {
                RestoreStep::Stage { component, .. } => kind = Some(component),
                RestoreStep::Swap { path, .. } => {
                    let target = match kind {
                        Some(SourceSpec::Directory { .. }) => SourceSpec::directory(path),
                        _ => SourceSpec::sqlite(path),
                    };
                    let place = vault.place(&target)?;
                    if places.iter().all(|known| known.id() != place.id()) {
                        places.push(place);
                    }
                    kind = None;
                }
                _ => {}
            }
        }
    }
    Ok(places)
}
