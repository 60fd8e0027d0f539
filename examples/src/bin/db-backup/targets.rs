//! Where a restore goes: files, databases, collections; and the targets of interrupted restores.

use std::str::FromStr;

use ops_backup::maintenance::Maintenance;
use ops_backup::{
    DatabaseOptions, DatabasePlace, DatabaseStep, DrillOptions, Place, QdrantOptions, QdrantPlace,
    QdrantStep, RestoreOptions, RestoreStep, SourceSpec, SqlProbe, TableChoice, Vault,
};
use ops_core::operations::{self, Operation, Standing, Which};
use ops_core::{OperationId, Plan, Resource, World};
use ops_examples::program::{Answer, Program};
use ops_examples::{Code, Failure};
use serde_json::json;

use crate::{SourceUrl, Wanted};

/// What is restored, and where to.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RestoreArgs {
    /// A backup's id, or `latest`.
    backup: Wanted,
    /// The set.
    #[arg(long)]
    set: String,
    /// `sqlite:/path/to/file`, `directory:/path`, `postgres://role@host/database`,
    /// `qdrant+http://host:6333/alias`, or `file:/path`, where what a program printed goes too.
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
    /// Restore a part: of a PostgreSQL database a schema or a table (`shop`, `shop.orders`), of a
    /// directory what a glob matches; may be given several times. The target must not exist.
    /// --dry-run tells what comes.
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    /// Create the roles that a PostgreSQL backup names and the server lacks, without login and
    /// password; the plan lists them.
    #[arg(long)]
    create_roles: bool,
    /// Compare only how many rows each table of a PostgreSQL database has, and not each row: quicker
    /// by about the time of a backup.
    #[arg(long)]
    counts_only: bool,
    /// Refuse any database but this one: `system_identifier/database`.
    #[arg(long, value_name = "FINGERPRINT")]
    expect_target: Option<String>,
    /// What a restored PostgreSQL database must answer with true before it takes the place of the
    /// old; may be given several times.
    #[arg(long, value_name = "NAME=SQL")]
    probe: Vec<Question>,
}

/// A question to a restored database: `some rows=SELECT count(*) > 0 FROM public.guests`.
#[derive(Debug, Clone)]
struct Question(SqlProbe);

impl FromStr for Question {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, sql) = text.split_once('=').ok_or("use NAME=SELECT ..., which answers true")?;
        Ok(Self(SqlProbe::new(name, sql)))
    }
}

/// What is drilled, and where.
#[derive(Debug, clap::Args)]
pub struct DrillArgs {
    /// A backup's id, or `latest`.
    backup: Wanted,
    /// The set.
    #[arg(long)]
    set: String,
    /// The server that databases and collections are restored to for the time of the drill:
    /// `postgres://role@host/any-database`, `qdrant+http://host:6333/any`; one of each. Better not
    /// the one in production.
    #[arg(long, value_name = "URL")]
    scratch: Vec<SourceUrl>,
    /// What each restored PostgreSQL database must answer with true; may be given several times.
    #[arg(long, value_name = "NAME=SQL")]
    probe: Vec<Question>,
    /// Begin although nobody can tell how much space the PostgreSQL server has.
    #[arg(long)]
    unknown_space: bool,
}

/// Drills a backup, or shows the plan of it.
pub async fn drill(program: &Program, vault: &Vault, args: DrillArgs) -> Result<Answer, Failure> {
    let id = args.backup.find(vault, &args.set).await?.id;
    let mut options = DrillOptions::default();
    for SourceUrl(server) in args.scratch {
        match *server {
            SourceSpec::Postgres { url } if options.database.is_none() => {
                options.database = Some(url);
            }
            SourceSpec::Qdrant { url } if options.collection.is_none() => {
                options.collection = Some(url);
            }
            other => {
                return Err(Failure::usage(format!(
                    "`{other}` is no server for scratch, or a second one"
                )));
            }
        }
    }
    options.probes = args.probe.into_iter().map(|question| question.0).collect();
    options.unknown_space = args.unknown_space;
    let plan = vault.plan_drill(&args.set, id, &options).await?;
    let mut answer = program.carry_out(plan, &vault).await?;
    if answer.json["report"].is_null() {
        return Ok(answer);
    }
    let again = |why: &str| {
        Failure::unexpected(format!("the attestation of backup {id} {why}; drill it again"))
    };
    let found = vault.attestation(&args.set, id).await;
    let found = found.map_err(|error| again(&format!("cannot be read: {error}")))?;
    let found = found.ok_or_else(|| again("is gone"))?;
    if !found.whole {
        let problems = found.problems.join("; ");
        return Err(Failure::unexpected(format!("backup {id} is damaged: {problems}")));
    }
    answer.text = format!("backup {id} was restored: {} bytes, {} rows", found.bytes, found.rows);
    answer.json["proof"] = json!(found);
    Ok(answer)
}

/// Restores, or shows the plan of it.
pub async fn restore(
    program: &Program,
    vault: &Vault,
    connections: usize,
    args: RestoreArgs,
) -> Result<Answer, Failure> {
    let RestoreArgs { backup, set, to, component, other_source, other_environment, .. } = args;
    let id = backup.find(vault, &set).await?.id;
    let component = component.map(|SourceUrl(component)| *component);
    match &*to.0 {
        SourceSpec::Postgres { url } => {
            let mut options = DatabaseOptions::default().connections(connections);
            options.component = component;
            options.other_source = other_source;
            options.other_environment = other_environment;
            options.unknown_space = args.unknown_space;
            options.create_roles = args.create_roles;
            options.counts_only = args.counts_only;
            let only: Result<Vec<TableChoice>, _> =
                args.only.iter().map(|choice| choice.parse()).collect();
            options.only = only?;
            options.fingerprint = args.expect_target;
            options.probes = args.probe.into_iter().map(|question| question.0).collect();
            let place = vault.database(url).await?;
            let plan = vault.plan_database_restore(&set, id, &place, &options).await?;
            program.carry_out(plan, &&place).await
        }
        SourceSpec::Qdrant { .. } if !args.only.is_empty() => Err(Failure::usage(
            "a collection is restored whole: --only is of databases and directories",
        )),
        SourceSpec::Qdrant { url } => {
            let mut options = QdrantOptions::default();
            options.component = component;
            options.other_source = other_source;
            options.other_environment = other_environment;
            let place = vault.collection(url).await?;
            let plan = vault.plan_collection_restore(&set, id, &place, &options).await?;
            program.carry_out(plan, &&place).await
        }
        target => {
            let mut options = RestoreOptions::default();
            options.component = component;
            options.other_source = other_source;
            options.other_environment = other_environment;
            options.only = args.only;
            let place = vault.place(target)?;
            let plan = vault.plan_restore(&set, id, &place, &options).await?;
            program.carry_out(plan, &&place).await
        }
    }
}

/// Undoes a restore that was committed, as its journal tells it.
pub async fn undo_restore(
    program: &Program,
    vault: &Vault,
    restore: OperationId,
) -> Result<Answer, Failure> {
    let (operation, _) = operations::show(&program.cx, restore)?;
    let (mut found, mut kept) = (Targets::default(), None);
    let mut replaced = false;
    for step in found.add(vault, &operation).await? {
        replaced |= matches!(&step, Swapped::Files | Swapped::Database);
        if let Swapped::Collection(old) = step {
            (replaced, kept) = (true, Some(old));
        }
    }
    if operation.is_open() {
        let message = format!("operation {restore} is not finished; run `recover` first");
        return Err(Failure::new(Code::Refused, message));
    }
    if !replaced || !matches!(operation.standing, Standing::Completed) {
        let message =
            format!("operation {restore} replaced nothing: there is nothing to go back to");
        return Err(Failure::new(Code::Refused, message));
    }
    let mut plan: Option<Plan> = None;
    let mut join = |next: Plan| {
        plan = Some(match plan.take() {
            Some(plan) => plan.then(next),
            None => next,
        });
    };
    for place in &found.places {
        join(vault.plan_undo_restore(place, restore)?);
    }
    for place in &found.databases {
        join(vault.plan_undo_database_restore(place, restore)?);
    }
    for place in &found.collections {
        join(vault.plan_undo_collection_restore(
            place,
            restore,
            kept.as_deref().unwrap_or_default(),
        )?);
    }
    let plan = plan.ok_or_else(|| Failure::unexpected("the restore has no target"))?;
    found.with_world(vault, async |world| program.carry_out(plan, world).await).await
}

/// Brings what was interrupted to its end.
pub async fn recover(program: &Program, vault: &Vault) -> Result<Answer, Failure> {
    let (mut found, mut left) = (Targets::default(), Vec::new());
    for operation in operations::list(&program.cx, Which::Open)?.0 {
        // A server that does not answer keeps nothing else from being recovered.
        let mut own = Targets::default();
        match own.add(vault, &operation).await {
            Ok(_) => found.join(own),
            Err(error) => left.push(format!("{} is left: {error}", operation.id)),
        }
    }
    let answer = found.with_world(vault, async |world| program.recover(world).await).await?;
    if left.is_empty() {
        return Ok(answer);
    }
    Err(Failure::unexpected(format!("{}\n{}", answer.text, left.join("\n"))))
}

/// What a restore exchanged.
enum Swapped {
    Files,
    Database,
    /// The collection that an alias stood for.
    Collection(String),
}

/// The targets of restores, as their journals name them.
#[derive(Default)]
struct Targets {
    places: Vec<Place>,
    databases: Vec<DatabasePlace>,
    collections: Vec<QdrantPlace>,
    maintained: Vec<Maintenance>,
}

impl Targets {
    fn join(&mut self, other: Self) {
        other.places.into_iter().for_each(|place| add(&mut self.places, place));
        other.databases.into_iter().for_each(|place| add(&mut self.databases, place));
        other.collections.into_iter().for_each(|place| add(&mut self.collections, place));
        other.maintained.into_iter().for_each(|place| add(&mut self.maintained, place));
    }

    /// Adds those of an operation, and tells what it exchanged.
    async fn add(&mut self, vault: &Vault, operation: &Operation) -> Result<Vec<Swapped>, Failure> {
        let (mut kind, mut swapped) = (None, Vec::new());
        for planned in operation.plan.steps() {
            let step = planned.step.clone();
            match &*planned.family {
                "restore" => match serde_json::from_value(step)? {
                    RestoreStep::Stage { component, .. } => kind = Some(component),
                    RestoreStep::Swap { path, replaces } => {
                        let target = match kind.take() {
                            Some(SourceSpec::Directory { .. }) => SourceSpec::directory(path),
                            Some(SourceSpec::Command { .. } | SourceSpec::File { .. }) => {
                                SourceSpec::file(path)
                            }
                            _ => SourceSpec::sqlite(path),
                        };
                        add(&mut self.places, vault.place(&target)?);
                        swapped.extend(replaces.then_some(Swapped::Files));
                    }
                    RestoreStep::Return { target, .. } => {
                        add(&mut self.places, vault.place(&target)?);
                        swapped.push(Swapped::Files);
                    }
                    _ => {}
                },
                "postgres_restore" => match serde_json::from_value(step)? {
                    DatabaseStep::Stage { url, .. } => {
                        add(&mut self.databases, vault.database(&url).await?);
                    }
                    DatabaseStep::Swap { replaces, .. } => {
                        swapped.extend(replaces.then_some(Swapped::Database));
                    }
                    DatabaseStep::Return { url, .. } => {
                        add(&mut self.databases, vault.database(&url).await?);
                        swapped.push(Swapped::Database);
                    }
                    _ => {}
                },
                "postgres_maintenance" => {
                    // Its steps name tables; which database they are in, the plan says.
                    if let Some(url) = operation.plan.facts.get("database") {
                        add(&mut self.maintained, vault.maintenance(&url.parse()?).await?);
                    }
                }
                "qdrant_restore" => match serde_json::from_value(step)? {
                    QdrantStep::Stage { url, .. } | QdrantStep::Return { url, .. } => {
                        add(&mut self.collections, vault.collection(&url).await?);
                    }
                    QdrantStep::Swap { old, .. } => swapped.push(Swapped::Collection(old)),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(swapped)
    }

    /// Hands them on, with their vault.
    async fn with_world(
        &self,
        vault: &Vault,
        work: impl AsyncFnOnce(&dyn World) -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let places: Vec<&Place> = self.places.iter().collect();
        let databases: Vec<&DatabasePlace> = self.databases.iter().collect();
        let collections: Vec<&QdrantPlace> = self.collections.iter().collect();
        let maintained: Vec<&Maintenance> = self.maintained.iter().collect();
        let servers: (&dyn World, &dyn World) = (&databases, &maintained);
        let (places, servers, collections): (&dyn World, &dyn World, &dyn World) =
            (&places, &servers, &collections);
        work(&(vault, places, servers, collections)).await
    }
}

fn add<R: Resource>(known: &mut Vec<R>, found: R) {
    if known.iter().all(|known| known.id() != found.id()) {
        known.push(found);
    }
}
