//! Backs databases and directories up: `db-backup --store file:///var/backups create --set nightly
//! --source sqlite:/srv/app/app.db`, then `... verify latest --set nightly`, and on the bad day
//! `... restore latest --set nightly --to sqlite:/srv/app/app.db`. PostgreSQL is
//! `--source postgres://ops@db/app`, with the password in `PGPASSWORD` or `PGPASSFILE`.
//!
//! A Qdrant collection is `--source qdrant+http://host:6333/docs`, with the API key in `QDRANT_API_KEY`
//! or `QDRANT_API_KEY_FILE`.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look, also at a backup that is damaged.

#[path = "db-backup/targets.rs"]
mod targets;
#[path = "db-backup/upkeep.rs"]
mod upkeep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use ops_backup::retention::Policy;
use ops_backup::{
    BackupId, Depth, Error, KeyName, KeyStep, Manifest, Proof, Recipient, SourceSpec, Subset,
    Unlock, Vault, VaultBuilder,
};
use ops_core::error::chain;
use ops_core::{OperationId, Secret};
use ops_examples::program::{Answer, CommonArgs, Program, run};
use ops_examples::{Code, Failure};
use serde_json::{Value, json};
use targets::{DrillArgs, RestoreArgs};
use upkeep::{DeleteOldArgs, Maintained, ReindexArgs};

/// Backups that are listed only when they are whole, and restores that go back.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the backups lie: `file:///absolute/folder`, or `s3://bucket/prefix` with `?endpoint=`,
    /// `&region=` and `&storage_class=` as needed, and the keys in AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY, or in the profile AWS_PROFILE of ~/.aws/credentials.
    #[arg(long, global = true, value_name = "URL", env = "DB_BACKUP_STORE")]
    store: Option<String>,
    /// The age identity that opens an encrypted repository, as `age-keygen` wrote it.
    #[arg(long, global = true, value_name = "FILE", env = "DB_BACKUP_IDENTITY")]
    identity: Option<PathBuf>,
    /// The passphrase that opens an encrypted repository: the first line of this file.
    #[arg(long, global = true, value_name = "FILE", env = "DB_BACKUP_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// The public key that the repository must have, as `init` told it.
    #[arg(long, global = true, value_name = "KEY", env = "DB_BACKUP_PUBLIC_KEY")]
    public_key: Option<String>,
    /// Send to the store and fetch from it so many bytes a second at most: `500k`, `10M`, `1G`.
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    store_limit: Option<u64>,
    /// Read what is backed up at so many bytes a second at most.
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    read_limit: Option<u64>,
    /// Read and write the rows of a PostgreSQL database with so many connections, 1 to 64.
    #[arg(long, global = true, value_name = "N", default_value_t = 2,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    connections: usize,
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin an encrypted repository in an empty store. --passphrase-file and these may open it.
    Init {
        /// A name, and an age recipient: `ada=age1...`; may be given several times.
        #[arg(long, value_name = "NAME=KEY")]
        recipient: Vec<NamedKey>,
    },
    /// Who can open an encrypted repository.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Make a backup of these sources, all or none.
    Create {
        /// The set that it belongs to.
        #[arg(long)]
        set: String,
        /// `sqlite:/path/to/file`, `dir:/path`, `file:/path`, `postgres://role@host/database`, or
        /// `cmd:program argument...` for what a program prints (`cmd:["program", "an argument"]`
        /// where one has a space), or `qdrant+http://host:6333/collection`; may be given several
        /// times. `dump:postgres://...` is `pg_dump -Fc`, `globals:postgres://...` the server's roles
        /// and tablespaces.
        #[arg(long, required = true, value_name = "URL")]
        source: Vec<SourceUrl>,
        /// Of directories, take only files that this glob matches; may be given several times.
        #[arg(long, value_name = "GLOB")]
        include: Vec<String>,
        /// Of directories, leave out what this glob matches; may be given several times.
        #[arg(long, value_name = "GLOB")]
        exclude: Vec<String>,
    },
    /// The backups of a set, oldest first.
    List {
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// What a backup holds.
    Show {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// Read every byte of a backup, and check it.
    Verify {
        /// A backup's id, or `latest`.
        backup: Wanted,
        /// Only look whether every object is there, with its size.
        #[arg(long)]
        quick: bool,
        /// Read only the objects whose turn it is: run it each day, or each week, and within any month
        /// all are read.
        #[arg(long, value_name = "EVERY", conflicts_with = "quick")]
        subset: Option<Every>,
        /// The set.
        #[arg(long)]
        set: String,
    },
    /// Restore a backup into scratch, compare it there, and attest what was found.
    Drill(DrillArgs),
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
    Restore(RestoreArgs),
    /// Build indexes of a PostgreSQL database anew, beside the old ones: those that are invalid or
    /// bloated. It needs a fresh, verified backup of that database. --dry-run tells which.
    Reindex(ReindexArgs),
    /// VACUUM and ANALYZE every table of a PostgreSQL database. It needs a fresh, verified backup of
    /// that database.
    Vacuum(Maintained),
    /// Delete the rows of a PostgreSQL table that are older than so much, in batches. It needs a fresh,
    /// verified backup of that database. --dry-run tells how many there are.
    DeleteOld(DeleteOldArgs),
    /// Undo a restore that this machine made: what it kept takes its place again, and what is there
    /// now is kept in its stead. Stop who writes to it before.
    UndoRestore {
        /// The restore's operation id, as its report and the name of what it kept tell it.
        restore: OperationId,
    },
    /// Bring what was interrupted to its end.
    Recover,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// The names of the keys.
    List,
    /// Let somebody else open the repository too.
    #[command(group(clap::ArgGroup::new("for").required(true)))]
    Add {
        /// What the key is called.
        name: KeyName,
        /// An age recipient: `age1...`.
        #[arg(long, group = "for", value_name = "KEY")]
        recipient: Option<String>,
        /// A passphrase: the first line of this file.
        #[arg(long, group = "for", value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Remove a key. Who has used it may have kept what it opens.
    Remove {
        /// What the key is called.
        name: KeyName,
    },
}

/// `ada=age1...`.
#[derive(Debug, Clone)]
struct NamedKey(KeyName, Recipient);

impl FromStr for NamedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once('=').ok_or("use NAME=age1...")?;
        let name = name.parse().map_err(|e: ops_backup::Error| e.to_string())?;
        Ok(Self(name, Recipient::public(key).map_err(|e| e.to_string())?))
    }
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

/// How often a part is verified.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Every {
    Day,
    Week,
}

/// Bytes a second, in powers of 1000 as networks have them.
fn rate(text: &str) -> Result<u64, String> {
    let (number, times) = match text.char_indices().next_back() {
        Some((end, 'k' | 'K')) => (&text[..end], 1_000),
        Some((end, 'M')) => (&text[..end], 1_000_000),
        Some((end, 'G')) => (&text[..end], 1_000_000_000),
        _ => (text, 1),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(times)) {
        Some(0) | None => Err("give bytes a second, such as 500k, 10M or 1G".to_owned()),
        Some(rate) => Ok(rate),
    }
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
            Some(("dir" | "directory", path)) => Ok(SourceSpec::directory(absolute(path)?)),
            Some(("file", path)) => Ok(SourceSpec::file(absolute(path)?)),
            Some(("postgres" | "postgresql", _)) => Ok(SourceSpec::postgres(database(text)?)),
            Some(("dump", url)) => Ok(SourceSpec::postgres_dump(database(url)?)),
            Some(("globals", url)) => Ok(SourceSpec::postgres_globals(database(url)?)),
            Some(("qdrant+http" | "qdrant+https", _)) => Ok(SourceSpec::qdrant(
                text.parse().map_err(|error: ops_backup::Error| error.to_string())?,
            )),
            Some(("cmd", words)) => {
                let argv: Vec<String> = if words.starts_with('[') {
                    serde_json::from_str(words).map_err(|e| format!("`{words}`: {e}"))?
                } else {
                    words.split_whitespace().map(str::to_owned).collect()
                };
                if argv.is_empty() {
                    return Err("`cmd:` needs a program".to_owned());
                }
                Ok(SourceSpec::command(argv))
            }
            _ => Err("use `sqlite:/path/to/file`, `dir:/path`, `file:/path`, \
                      `postgres://role@host/database`, `qdrant+http://host:6333/collection` or \
                      `cmd:program argument...`"
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
    let Args {
        store,
        identity,
        passphrase_file,
        public_key,
        store_limit,
        read_limit,
        connections,
        common,
        verb,
    } = Args::parse();
    let dry_run = common.dry_run;
    run("db-backup", common, async |program| {
        let store = store.ok_or_else(|| {
            Failure::usage("give --store, such as file:///var/backups, or set DB_BACKUP_STORE")
        })?;
        let mut builder = Vault::builder().connections(connections);
        if let Some(file) = &identity {
            builder = builder.unlock(Unlock::Identity(Secret::from_file(file)?));
        }
        let passphrase = passphrase_file.as_deref().map(first_line).transpose()?;
        if let Some(passphrase) = &passphrase {
            builder = builder.unlock(Unlock::Passphrase(passphrase.clone()));
        }
        if let Some(key) = public_key {
            builder = builder.expect_public_key(key);
        }
        if let Some(rate) = store_limit {
            builder = builder.store_limit(rate);
        }
        if let Some(rate) = read_limit {
            builder = builder.read_limit(rate);
        }
        if let Verb::Init { recipient } = verb {
            return init(builder, &store, recipient, passphrase, dry_run).await;
        }
        let vault = builder.open_url(&store).await?;
        match verb {
            Verb::Init { .. } => Err(Failure::usage("init was done")),
            Verb::Key(verb) => key(program, &vault, verb).await,
            Verb::Create { set, source, include, exclude } => {
                let all = |SourceUrl(source)| {
                    let source = include.iter().fold(*source, SourceSpec::include);
                    exclude.iter().fold(source, SourceSpec::exclude)
                };
                create(program, &vault, &set, source.into_iter().map(all).collect()).await
            }
            Verb::List { set } => list(&vault, &set).await,
            Verb::Show { backup, set } => {
                let manifest = backup.find(&vault, &set).await?;
                let text = serde_json::to_string_pretty(&manifest)?;
                Ok(Answer::new(text, json!(manifest)))
            }
            Verb::Verify { backup, quick, subset, set } => {
                let now = program.cx.clock().now();
                let depth = match subset {
                    Some(Every::Day) => Depth::Part(Subset::of_day(now)),
                    Some(Every::Week) => Depth::Part(Subset::of_week(now)),
                    None if quick => Depth::Quick,
                    None => Depth::Full,
                };
                verify(program, &vault, &set, &backup, depth).await
            }
            Verb::Drill(args) => targets::drill(program, &vault, args).await,
            Verb::Prune { set, rules } => {
                let now = program.cx.clock().now();
                let plan = vault.plan_prune(&set, rules.policy(), now).await?;
                program.carry_out(plan, &&vault).await
            }
            Verb::Restore(args) => targets::restore(program, &vault, connections, args).await,
            Verb::Reindex(args) => upkeep::reindex(program, &vault, args).await,
            Verb::Vacuum(args) => upkeep::vacuum(program, &vault, args).await,
            Verb::DeleteOld(args) => upkeep::delete_old(program, &vault, args).await,
            Verb::UndoRestore { restore } => targets::undo_restore(program, &vault, restore).await,
            Verb::Recover => targets::recover(program, &vault).await,
        }
    })
    .await
}

/// The passphrase in a file, without its line break.
fn first_line(file: &Path) -> Result<Secret, Failure> {
    let secret = Secret::from_file(file)?;
    let line = secret.expose().lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::usage(format!("`{}` begins with no passphrase", file.display())));
    }
    Ok(Secret::new(line))
}

async fn init(
    mut builder: VaultBuilder,
    store: &str,
    recipients: Vec<NamedKey>,
    passphrase: Option<Secret>,
    dry_run: bool,
) -> Result<Answer, Failure> {
    if recipients.is_empty() && passphrase.is_none() {
        return Err(Failure::usage("give --recipient NAME=age1..., or --passphrase-file"));
    }
    let mut names: Vec<_> = recipients.iter().map(|key| key.0.to_string()).collect();
    for NamedKey(name, recipient) in recipients {
        builder = builder.encrypt_for(name, recipient);
    }
    if let Some(passphrase) = passphrase {
        names.push("passphrase".to_owned());
        builder = builder.encrypt_for("passphrase".parse()?, Recipient::passphrase(passphrase));
    }
    let who = names.join(", ");
    if dry_run {
        let text = format!("would begin an encrypted repository for {who}");
        return Ok(Answer::new(text, json!({"keys": names})));
    }
    let vault = builder.open_url(store).await?;
    let key = vault.public_key().unwrap_or_default();
    let text = format!("the repository can be opened by {who}; its public key is {key}");
    Ok(Answer::new(text, json!({"keys": names, "public_key": key})))
}

async fn key(program: &Program, vault: &Vault, verb: KeyVerb) -> Result<Answer, Failure> {
    match verb {
        KeyVerb::List => {
            let names: Vec<_> = vault.keys().await?.iter().map(ToString::to_string).collect();
            let json = json!({"keys": names, "public_key": vault.public_key()});
            Ok(Answer::new(names.join("\n"), json))
        }
        KeyVerb::Add { name, recipient: Some(recipient), .. } => {
            Recipient::public(&recipient)?;
            let plan = vault.plan_key(KeyStep::AddRecipient { name, recipient })?;
            program.carry_out(plan, &vault).await
        }
        KeyVerb::Add { name, new_passphrase_file, .. } => {
            let file = new_passphrase_file.unwrap_or_default();
            let vault = vault.clone().with_passphrase(name.clone(), first_line(&file)?);
            let plan = vault.plan_key(KeyStep::AddPassphrase { name })?;
            program.carry_out(plan, &&vault).await
        }
        KeyVerb::Remove { name } => {
            program.carry_out(vault.plan_key(KeyStep::Remove { name })?, &vault).await
        }
    }
}

async fn create(
    program: &Program,
    vault: &Vault,
    set: &str,
    sources: Vec<SourceSpec>,
) -> Result<Answer, Failure> {
    let plan = vault.plan_backup(set, &sources)?;
    let mut answer = program.carry_out(plan, &vault).await?;
    if answer.json["report"].is_null() {
        return Ok(answer);
    }
    match made(vault, set, &answer).await {
        Ok(Some(manifest)) => {
            let (id, plain, new) = (manifest.id, manifest.plain_size(), manifest.uploaded());
            answer.text = format!("backup {id}: {plain} bytes, {new} uploaded");
            answer.json["backup"] = describe(&manifest);
        }
        Ok(None) => answer.warn("it is not listed: a prune was quicker"),
        Err(error) => answer.warn(format!("it cannot be looked at: {}", chain(&error).join(": "))),
    }
    Ok(answer)
}

/// The backup that an operation made. The newest may be another program's, which was quicker.
async fn made(vault: &Vault, set: &str, answer: &Answer) -> Result<Option<Manifest>, Error> {
    let mut unreadable = None;
    for id in vault.list(set).await?.into_iter().rev() {
        match vault.show(set, id).await {
            Ok(manifest) if answer.json["report"]["id"] == json!(manifest.operation) => {
                return Ok(Some(manifest));
            }
            Ok(_) => {}
            Err(error) => unreadable = Some(error),
        }
    }
    unreadable.map_or(Ok(None), Err)
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

async fn verify(
    program: &Program,
    vault: &Vault,
    set: &str,
    backup: &Wanted,
    depth: Depth,
) -> Result<Answer, Failure> {
    let id = backup.find(vault, set).await?.id;
    let found = vault.verify_watched(set, id, depth, program.cx.progress()).await?;
    if !found.is_whole() {
        let problems = found.problems.join("; ");
        return Err(Failure::unexpected(format!("backup {id} is damaged: {problems}")));
    }
    let (objects, read, bytes) = (found.objects, found.read, found.bytes);
    let text = match depth {
        Depth::Part(_) => {
            format!("backup {id} has its {objects} objects; {read} were read, {bytes} bytes")
        }
        _ => format!("backup {id} is whole: {objects} objects, {bytes} bytes"),
    };
    let json = json!({
        "backup": id,
        "whole": true,
        "objects": objects,
        "read": read,
        "bytes": bytes,
    });
    Ok(Answer::new(text, json))
}

fn describe(manifest: &Manifest) -> Value {
    let sources: Vec<_> = manifest.sources.iter().map(|s| s.source.to_string()).collect();
    json!({
        "id": manifest.id,
        "set": manifest.set,
        "created_at": manifest.created_at,
        "environment": manifest.environment,
        "bytes": manifest.plain_size(),
        "uploaded": manifest.uploaded(),
        "sources": sources,
    })
}
