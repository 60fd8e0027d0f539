//! Maintenance of PostgreSQL databases, which needs a way back.

use std::time::Duration;

use ops_backup::maintenance::{FreshBackup, IndexLimits, Maintenance, OldRows};
use ops_backup::{SourceSpec, TableChoice, Vault};
use ops_examples::Failure;
use ops_examples::program::{Answer, Program};
use serde_json::json;

use crate::SourceUrl;

/// Which database, and what the way back is.
#[derive(Debug, clap::Args)]
pub struct Maintained {
    /// `postgres://role@host/database`.
    database: SourceUrl,
    /// The set with the backups of that database.
    #[arg(long)]
    set: String,
    /// How many hours ago the backup may have been begun.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    max_age: u64,
}

impl Maintained {
    async fn open(&self, vault: &Vault) -> Result<Maintenance, Failure> {
        let SourceSpec::Postgres { url } = &*self.database.0 else {
            return Err(Failure::usage("what is maintained is a `postgres://role@host/database`"));
        };
        Ok(vault.maintenance(url).await?)
    }

    async fn fresh(&self, database: &Maintenance) -> Result<FreshBackup, Failure> {
        let age = Duration::from_secs(self.max_age.saturating_mul(3600));
        Ok(database.fresh_backup(&self.set, age).await?)
    }
}

/// Which indexes are built anew.
#[derive(Debug, clap::Args)]
pub struct ReindexArgs {
    #[command(flatten)]
    maintained: Maintained,
    /// Build anew what wastes this part of its size, by estimate.
    #[arg(long, value_name = "RATIO", default_value_t = 0.5)]
    ratio: f64,
    /// And as many MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    waste: u64,
}

/// Builds indexes anew, or shows the plan of it.
pub async fn reindex(
    program: &Program,
    vault: &Vault,
    args: ReindexArgs,
) -> Result<Answer, Failure> {
    let database = args.maintained.open(vault).await?;
    let limits = IndexLimits::new(args.ratio, args.waste << 20);
    let advice = database.index_advice(limits).await?;
    if advice.is_empty() {
        return Ok(Answer::new("no index needs it", json!({"changed": false, "advice": []})));
    }
    let backup = args.maintained.fresh(&database).await?;
    let plan = database.plan_reindex(&backup, &advice)?;
    let mut answer = program.carry_out(plan, &&database).await?;
    answer.json["advice"] = json!(advice);
    Ok(answer)
}

/// Vacuums and analyzes, or shows the plan of it.
pub async fn vacuum(program: &Program, vault: &Vault, args: Maintained) -> Result<Answer, Failure> {
    let database = args.open(vault).await?;
    let plan = database.plan_vacuum(&args.fresh(&database).await?)?;
    program.carry_out(plan, &&database).await
}

/// Which rows are old.
#[derive(Debug, clap::Args)]
pub struct DeleteOldArgs {
    #[command(flatten)]
    maintained: Maintained,
    /// `schema.table`, with double quotes as SQL has them where a name needs them.
    #[arg(long)]
    table: TableChoice,
    /// Its column that says how old a row is: a date or a timestamp.
    #[arg(long)]
    column: String,
    /// Delete what is older: `90d`, `12h`.
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Duration,
    /// How many rows are deleted in one transaction.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
}

/// Days or hours; one at least, for an age of nothing is every row.
fn age(text: &str) -> Result<Duration, String> {
    let hours = match text.char_indices().next_back() {
        Some((end, 'd')) => text[..end].parse().ok().and_then(|days: u64| days.checked_mul(24)),
        Some((end, 'h')) => text[..end].parse().ok(),
        _ => None,
    };
    match hours.and_then(|hours| hours.checked_mul(3600)) {
        Some(0) | None => Err("give days or hours, such as 90d or 12h".to_owned()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// Deletes old rows in batches, or shows the plan of it, with how many there are.
pub async fn delete_old(
    program: &Program,
    vault: &Vault,
    args: DeleteOldArgs,
) -> Result<Answer, Failure> {
    let TableChoice::Table(schema, table) = args.table else {
        return Err(Failure::usage("name a table with its schema, such as `public.events`"));
    };
    let database = args.maintained.open(vault).await?;
    let backup = args.maintained.fresh(&database).await?;
    let rows = OldRows::new(schema, table, args.column, args.older_than).batch(args.batch);
    let plan = database.plan_delete(&backup, &rows, program.cx.clock().now()).await?;
    program.carry_out(plan, &&database).await
}
