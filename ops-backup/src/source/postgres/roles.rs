//! Roles that a restore creates, because the backup names them and the server has none.
//!
//! They can do nothing but own: no login, no password, no member of anything. Each carries a comment
//! that tells the operation, so that the way back drops no role of somebody else.

use ops_core::{OperationId, Refusal};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::connect::{failed, run};
use super::facts::scalar;
use super::place::DatabasePlace;
use super::quote::{ident, literal};
use crate::error::Error;

fn mark(operation: OperationId) -> String {
    format!("created by ops-backup, operation {operation}")
}

/// Which of these there are, each with its comment.
async fn find(
    connection: &mut PgConnection,
    roles: &[String],
) -> Result<Vec<(String, Option<String>)>, Error> {
    sqlx::query_as(
        "SELECT rolname::text, shobj_description(oid, 'pg_authid') FROM pg_roles
        WHERE rolname = ANY ($1) ORDER BY 1",
    )
    .bind(roles)
    .fetch_all(connection)
    .await
    .map_err(|e| failed("look for roles", e))
}

pub(super) async fn refusals(
    place: &DatabasePlace,
    roles: &[String],
) -> Result<Vec<Refusal>, Error> {
    let mut connection = place.maintenance().await?;
    let mut reasons = Vec::new();
    for (role, _) in find(&mut connection, roles).await? {
        reasons.push(Refusal::new(
            format!("role `{role}` appeared since the plan"),
            "plan the restore again",
        ));
    }
    let may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
    if !scalar::<bool>(&mut connection, may).await? {
        reasons.push(Refusal::new(
            format!("role `{}` may not create roles", place.url.user()),
            "give it CREATEROLE, or create the roles by hand",
        ));
    }
    let _ = connection.close().await;
    Ok(reasons)
}

pub(super) async fn create(
    place: &DatabasePlace,
    roles: &[String],
    operation: OperationId,
) -> Result<(), Error> {
    let mut connection = place.maintenance().await?;
    let there = find(&mut connection, roles).await?;
    let ours = Some(mark(operation));
    run(&mut connection, "SET synchronous_commit = on").await?;
    for role in roles {
        // A second run finds its own; one of somebody else ends the restore.
        if there.iter().any(|(name, comment)| name == role && *comment == ours) {
            continue;
        }
        let (name, comment) = (ident(role), literal(&mark(operation)));
        let sql = format!(
            "BEGIN; CREATE ROLE {name} NOLOGIN; COMMENT ON ROLE {name} IS {comment}; COMMIT"
        );
        run(&mut connection, &sql).await?;
        ops_core::fault::point("created a role");
    }
    let _ = connection.close().await;
    Ok(())
}

pub(super) async fn remove(
    place: &DatabasePlace,
    roles: &[String],
    operation: OperationId,
) -> Result<(), Error> {
    let mut connection = place.maintenance().await?;
    let ours = Some(mark(operation));
    for (role, comment) in find(&mut connection, roles).await? {
        if comment == ours {
            run(&mut connection, &format!("DROP ROLE {}", ident(&role))).await?;
            ops_core::fault::point("dropped a role");
        }
    }
    let _ = connection.close().await;
    Ok(())
}
