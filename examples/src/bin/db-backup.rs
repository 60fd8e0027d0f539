//! Backs databases and directories up: `db-backup --store file:///var/backups create --set nightly
//! --source sqlite:/srv/app/app.db`, then `... verify latest --set nightly`, and on the bad day
//! `... restore latest --set nightly --to sqlite:/srv/app/app.db`. PostgreSQL is
//! `--source postgres://ops@db/app`, with the password in `PGPASSWORD` or `PGPASSFILE`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look, also at a backup that is damaged.

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use ops_backup::retention::Policy;
use ops_backup::{
    BackupId, DatabaseOptions, DatabasePlace, DatabaseStep, Depth, Manifest, Place, Proof,
    RestoreOptions, RestoreStep, SourceSpec, Vault,
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
        /// `sqlite:/path/to/file`, `directory:/path` or `postgres://role@host/database`; may be
        /// given several times. `dump:postgres://...` is `pg_dump -Fc`, `globals:postgres://...`
        /// the server's roles and tablespaces.
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
    /// Restore a backup into scratch, compare it there, and attest what was found.
    Drill {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// Delete the backups of a set that no rule keeps, and what killed backups left. The newest
    /// and the newest verified always stay. --dry-run tells each one's fate.
    #[command(group(clap::ArgGroup::new("rule").required(true).multiple(true)))]
    Prune {
        /// The set.
        #[arg(long)]
        set: String,
        #[command(flatten)]
        rules: Rules,
    },
    /// Restore into a place; what is there is kept beside it. Stop who writes to it before.
    Restore {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// The set.
        #[arg(long)]
        set: String,
        /// `sqlite:/path/to/file`, `directory:/path` or `postgres://role@host/database`.
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
        /// Begin although nobody can tell how much space the database server has.
        #[arg(long)]
        unknown_space: bool,
        /// Refuse any database but this one: `system_identifier/database`.
        #[arg(long, value_name = "FINGERPRINT")]
        expect_target: Option<String>,
    },
    /// Bring what was interrupted to its end.
    Recover,
}

/// What a prune keeps, in days, weeks, months and years of UTC that have a backup.
#[derive(Debug, clap::Args)]
struct Rules {
    /// Keep the newest N backups.
    #[arg(long = "keep-last", group = "rule", value_name = "N", value_parser = count)]
    last: Option<usize>,
    /// Keep the newest backup of each of the last N days.
    #[arg(long = "keep-daily", group = "rule", value_name = "N", value_parser = count)]
    daily: Option<usize>,
    /// Keep the newest backup of each of the last N weeks.
    #[arg(long = "keep-weekly", group = "rule", value_name = "N", value_parser = count)]
    weekly: Option<usize>,
    /// Keep the newest backup of each of the last N months.
    #[arg(long = "keep-monthly", group = "rule", value_name = "N", value_parser = count)]
    monthly: Option<usize>,
    /// Keep the newest backup of each of the last N years.
    #[arg(long = "keep-yearly", group = "rule", value_name = "N", value_parser = count)]
    yearly: Option<usize>,
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number from 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

impl Rules {
    fn policy(&self) -> Policy {
        Policy::new()
            .last(self.last.unwrap_or(0))
            .daily(self.daily.unwrap_or(0))
            .weekly(self.weekly.unwrap_or(0))
            .monthly(self.monthly.unwrap_or(0))
            .yearly(self.yearly.unwrap_or(0))
    }
}

/// A source as an argument.
#[derive(Debug, Clone)]
struct SourceUrl(Box<SourceSpec>);

impl FromStr for SourceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let database =
            |url: &str| url.parse().map_err(|error: ops_backup::Error| error.to_string());
        let absolute = |path: &str| {
            let path = path.strip_prefix("//").unwrap_or(path);
            std::path::absolute(path).map_err(|error| format!("`{text}` has no path: {error}"))
        };
        match text.split_once(':') {
            Some(("sqlite", path)) => Ok(SourceSpec::sqlite(absolute(path)?)),
            Some(("directory", path)) => Ok(SourceSpec::directory(absolute(path)?)),
            Some(("postgres" | "postgresql", _)) => Ok(SourceSpec::postgres(database(text)?)),
            Some(("dump", url)) => Ok(SourceSpec::postgres_dump(database(url)?)),
            Some(("globals", url)) => Ok(SourceSpec::postgres_globals(database(url)?)),
            _ => Err("use `sqlite:/path/to/file`, `directory:/path` or \
                      `postgres://role@host/database`"
                .to_owned()),
        }
        .map(|source| Self(Box::new(source)))
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
        let vault = Vault::open_url(&store).await?;
        match verb {
            Verb::Create { set, source } => create(program, &vault, &set, source).await,
            Verb::List { set } => list(&vault, &set).await,
            Verb::Verify { backup, set } => verify(&vault, &set, &backup).await,
            Verb::Drill { backup, set } => drill(program, &vault, &set, &backup).await,
            Verb::Prune { set, rules } => {
                let now = program.cx.clock().now();
                let plan = vault.plan_prune(&set, rules.policy(), now).await?;
                program.carry_out(plan, &&vault).await
            }
            Verb::Restore {
                backup,
                set,
                to,
                component,
                other_source,
                other_environment,
                unknown_space,
                expect_target,
            } => {
                let id = backup.find(&vault, &set).await?.id;
                let component = component.map(|SourceUrl(component)| *component);
                if let SourceSpec::Postgres { url } = &*to.0 {
                    let mut options = DatabaseOptions::default();
                    options.component = component;
                    options.other_source = other_source;
                    options.other_environment = other_environment;
                    options.unknown_space = unknown_space;
                    options.fingerprint = expect_target;
                    let place = vault.database(url).await?;
                    let plan = vault.plan_database_restore(&set, id, &place, &options).await?;
                    return program.carry_out(plan, &&place).await;
                }
                let mut options = RestoreOptions::default();
                options.component = component;
                options.other_source = other_source;
                options.other_environment = other_environment;
                let place = vault.place(&to.0)?;
                let plan = vault.plan_restore(&set, id, &place, &options).await?;
                program.carry_out(plan, &&place).await
            }
            Verb::Recover => {
                let places = interrupted(program, &vault)?;
                let places: Vec<&Place> = places.iter().collect();
                let world: &dyn World = &places;
                let databases = interrupted_databases(program, &vault).await?;
                let databases: Vec<&DatabasePlace> = databases.iter().collect();
                let servers: &dyn World = &databases;
                program.recover(&(&vault, world, servers)).await
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
    let sources: Vec<_> = source.into_iter().map(|SourceUrl(source)| *source).collect();
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
        let proof = vault.attestation(set, id).await?;
        let proven = proof.as_ref().map_or_else(String::new, |proof| {
            let how = if proof.proof == Proof::Drill { "restored" } else { "verified" };
            let damaged = if proof.whole { "" } else { ", DAMAGED" };
            format!(", {how} {}{damaged}", proof.at)
        });
        lines.push(format!("{id} {at} {} {size} bytes{proven}", manifest.environment));
        let mut backup = describe(&manifest);
        backup["proof"] = json!(proof);
        backups.push(backup);
    }
    let last = vault.last_proven(set).await?;
    if let Some(last) = last.as_ref().filter(|_| !lines.is_empty()) {
        lines.push(format!("last proven restore: {} of {}", last.at, last.backup));
    }
    let json = json!({"set": set, "backups": backups, "last_proven": last});
    Ok(Answer::new(lines.join("\n"), json))
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

async fn drill(
    program: &Program,
    vault: &Vault,
    set: &str,
    backup: &Wanted,
) -> Result<Answer, Failure> {
    let id = backup.find(vault, set).await?.id;
    let mut answer = program.carry_out(vault.plan_drill(set, id).await?, &vault).await?;
    if answer.json["report"].is_null() {
        return Ok(answer);
    }
    let found = vault.attestation(set, id).await?.ok_or_else(|| {
        Failure::unexpected(format!("the attestation of backup {id} is gone; drill it again"))
    })?;
    if !found.whole {
        let problems = found.problems.join("; ");
        return Err(Failure::unexpected(format!("backup {id} is damaged: {problems}")));
    }
    answer.text = format!("backup {id} was restored: {} bytes, {} rows", found.bytes, found.rows);
    answer.json["proof"] = json!(found);
    Ok(answer)
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

/// The databases whose restores were interrupted, as their journals name them.
async fn interrupted_databases(
    program: &Program,
    vault: &Vault,
) -> Result<Vec<DatabasePlace>, Failure> {
    let mut places: Vec<DatabasePlace> = Vec::new();
    for operation in operations::list(&program.cx, Which::Open)?.0 {
        for step in operation.plan.steps().filter(|step| step.family == "postgres_restore") {
            if let DatabaseStep::Stage { url, .. } = serde_json::from_value(step.step.clone())? {
                let place = vault.database(&url).await?;
                if places.iter().all(|known| known.id() != place.id()) {
                    places.push(place);
                }
            }
        }
    }
    Ok(places)
}
