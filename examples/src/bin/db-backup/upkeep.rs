//! Maintenance of PostgreSQL databases, which needs a way back.

use std::time::Duration;

use ops_backup::maintenance::IndexLimits;
use ops_backup::{SourceSpec, Vault};
use ops_examples::Failure;
use ops_examples::program::{Answer, Program};
use serde_json::json;

use crate::SourceUrl;

/// Which indexes are built anew.
#[derive(Debug, clap::Args)]
pub struct ReindexArgs {
    /// `postgres://role@host/database`.
    database: SourceUrl,
    /// The set with the backups of that database.
    #[arg(long)]
    set: String,
    /// How many hours ago the backup may have been begun.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    max_age: u64,
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
    let SourceSpec::Postgres { url } = &*args.database.0 else {
        return Err(Failure::usage("indexes are those of a `postgres://role@host/database`"));
    };
    let database = vault.maintenance(url).await?;
    let limits = IndexLimits::new(args.ratio, args.waste << 20);
    let advice = database.index_advice(limits).await?;
    if advice.is_empty() {
        return Ok(Answer::new("no index needs it", json!({"changed": false, "advice": []})));
    }
    let age = Duration::from_secs(args.max_age.saturating_mul(3600));
    let backup = database.fresh_backup(&args.set, age).await?;
    let plan = database.plan_reindex(&backup, &advice)?;
    let mut answer = program.carry_out(plan, &&database).await?;
    answer.json["advice"] = json!(advice);
    Ok(answer)
}
