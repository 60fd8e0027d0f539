//! A database that exists for the time of a drill only.

use ops_core::{OperationId, Refusal, StepContext};
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use super::connect::failed;
use super::facts::scalar;
use super::place::{DatabaseOptions, DatabasePlace};
use super::probe::SqlProbe;
use super::refusals;
use super::stage::{self, Stage};
use super::url::PostgresUrl;
use crate::error::Error;
use crate::manifest::{Manifest, SourceRecord};
use crate::vault::Vault;

fn beginning(operation: OperationId) -> String {
    format!("ops_drill_{}_", operation.to_string().to_ascii_lowercase())
}

async fn place(
    vault: &Vault,
    server: &PostgresUrl,
    operation: OperationId,
    at: usize,
) -> Result<DatabasePlace, Error> {
    let name = format!("{}{at}", beginning(operation));
    // The address names a database that is there: from it the scratch is made and dropped.
    let from = server.with_parameter("maintenance", server.database());
    DatabasePlace::new(vault.clone(), &from.with_database(name)).await
}

/// Why a server cannot take the scratch database of a drill.
pub(crate) async fn unfit(
    vault: &Vault,
    record: &SourceRecord,
    server: &PostgresUrl,
    operation: OperationId,
    unknown_space: bool,
) -> Result<Vec<Refusal>, Error> {
    let place = match place(vault, server, operation, 0).await {
        Ok(place) => place,
        Err(error) => {
            return Ok(vec![Refusal::of(&error, "name a server that answers and may be written")]);
        }
    };
    let mut connection = place.maintenance().await?;
    let mut reasons =
        refusals::unfit(&place, &mut connection, record, (unknown_space, true)).await?;
    let may = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
    if !scalar::<bool>(&mut connection, may).await? {
        reasons.push(Refusal::new(
            format!("role `{}` may not create the scratch database", server.user()),
            "give it CREATEDB, or drill as another role",
        ));
    }
    let _ = connection.close().await;
    Ok(reasons)
}

/// Restores a database of a backup into scratch, where every row is compared, asks the probes, and
/// drops it. Answers how many rows there were.
pub(crate) async fn rehearse(
    vault: &Vault,
    manifest: &Manifest,
    (at, record): (usize, &SourceRecord),
    server: &PostgresUrl,
    probes: &[SqlProbe],
    cx: &StepContext,
    cancel: &CancellationToken,
) -> Result<u64, Error> {
    let place = place(vault, server, cx.operation(), at).await?;
    let database = place.url.database().to_owned();
    let options = DatabaseOptions { probes: probes.to_vec(), ..DatabaseOptions::default() };
    let work = Stage {
        place: place.clone(),
        set: manifest.set.clone(),
        backup: manifest.id,
        component: record.source.clone(),
        options,
        database: database.clone(),
        cx: cx.clone(),
    };
    let restored = cancel.run_until_cancelled(Box::pin(work.run(cancel))).await;
    ops_core::fault::point("restored into a scratch database");
    let restored = restored.unwrap_or_else(|| Err(Error::cancelled()));
    stage::discard(&place, &database).await?;
    restored?;
    Ok(record.tables.values().map(|table| table.rows).fold(0, u64::saturating_add))
}

/// Drops what a drill left.
pub(crate) async fn sweep(
    vault: &Vault,
    server: &PostgresUrl,
    operation: OperationId,
) -> Result<(), Error> {
    let place = place(vault, server, operation, 0).await?;
    let mut connection = place.maintenance().await?;
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1",
    )
    .bind(beginning(operation))
    .fetch_all(&mut connection)
    .await
    .map_err(|e| failed("look for scratch databases", e))?;
    let _ = connection.close().await;
    for database in left {
        stage::discard(&place, &database).await?;
    }
    Ok(())
}
