//! The swap of two databases by their names, and the way back.
//!
//! Which one is where is told by their object ids, which were noted before anything was changed.
//! The renames and all that is carried over are one transaction.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::carry;
use super::connect::{failed, run};
use super::facts::properties;
use super::place::DatabasePlace;
use super::quote::ident;
use crate::error::{Error, ErrorKind};

/// How long sessions may take to end when they are told to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was where before the swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    old: Option<Was>,
    new: i64,
    /// Whether the new one lets anybody connect.
    #[serde(default = "yes")]
    open: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Was {
    oid: i64,
    /// Whether it lets anybody connect.
    open: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Rename {
    pub target: String,
    pub staged: String,
    pub old: String,
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Was>, Error> {
    let found: Option<(i64, bool)> =
        sqlx::query_as("SELECT oid::int8, datallowconn FROM pg_database WHERE datname = $1")
            .bind(name)
            .fetch_optional(connection)
            .await
            .map_err(|e| failed("look for the database", e))?;
    Ok(found.map(|(oid, open)| Was { oid, open }))
}

/// Whether this database has this name now.
fn is(found: Option<&Was>, oid: i64) -> bool {
    found.is_some_and(|was| was.oid == oid)
}

impl Rename {
    pub async fn look(&self, place: &DatabasePlace, replaces: bool) -> Result<Before, Error> {
        let mut connection = place.maintenance().await?;
        let old = find(&mut connection, &self.target).await?;
        let new = find(&mut connection, &self.staged).await?;
        let _ = connection.close().await;
        if old.is_some() != replaces {
            let message = format!("database `{}` appeared or vanished since the plan", self.target);
            return Err(
                Error::new(ErrorKind::InvalidInput, message).remedy("plan the restore again")
            );
        }
        let new = new.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("database `{}` is missing", self.staged))
        })?;
        Ok(Before { old, new: new.oid, open: new.open })
    }

    pub async fn forward(&self, place: &DatabasePlace, before: &Before) -> Result<(), Error> {
        let mut connection = place.maintenance().await?;
        run(&mut connection, "SET synchronous_commit = on").await?;
        let there = find(&mut connection, &self.target).await?;
        if is(there.as_ref(), before.new) {
            return Ok(());
        }
        let mut script = String::from("BEGIN;\n");
        if let Some(was) = &before.old {
            if !is(there.as_ref(), was.oid) {
                let message =
                    format!("database `{}` is another one since the swap began", self.target);
                return Err(
                    Error::new(ErrorKind::InvalidInput, message).remedy("plan the restore again")
                );
            }
            allow(&mut connection, &self.target, false).await?;
            ops_core::fault::point("blocked the old database");
            // What belongs to the old database in the server goes to the new one.
            if let Some(properties) = properties(&mut connection, &self.target).await? {
                script += &carry::script(&properties, &self.staged);
            }
        }
        end_sessions(&mut connection, &[&self.target, &self.staged]).await?;
        ops_core::fault::point("ended the sessions");
        let [target, staged, old] = [&self.target, &self.staged, &self.old].map(|name| ident(name));
        if let Some(was) = &before.old {
            let _ = writeln!(script, "ALTER DATABASE {target} RENAME TO {old};");
            let _ = writeln!(script, "ALTER DATABASE {old} WITH ALLOW_CONNECTIONS {};", was.open);
        }
        let _ = write!(script, "ALTER DATABASE {staged} RENAME TO {target};\nCOMMIT");
        run(&mut connection, &script).await?;
        ops_core::fault::point("swapped the names");
        let _ = connection.close().await;
        Ok(())
    }

    /// Gives the old database its name back, and the new one the name that it had before.
    pub async fn back(&self, place: &DatabasePlace, before: &Before) -> Result<(), Error> {
        let mut connection = place.maintenance().await?;
        run(&mut connection, "SET synchronous_commit = on").await?;
        let there = find(&mut connection, &self.target).await?;
        let [target, staged, old] = [&self.target, &self.staged, &self.old].map(|name| ident(name));
        if is(there.as_ref(), before.new) {
            // Before anything is closed: without the old one, the new one is all there is.
            if let Some(was) = &before.old
                && !is(find(&mut connection, &self.old).await?.as_ref(), was.oid)
            {
                return Err(self.lost());
            }
            allow(&mut connection, &self.target, false).await?;
            ops_core::fault::point("blocked the new database");
            end_sessions(&mut connection, &[&self.target, &self.old]).await?;
            let mut script = format!("BEGIN;\nALTER DATABASE {target} RENAME TO {staged};\n");
            let open = before.open;
            let _ = writeln!(script, "ALTER DATABASE {staged} WITH ALLOW_CONNECTIONS {open};");
            if let Some(was) = &before.old {
                let open = was.open;
                let _ = writeln!(script, "ALTER DATABASE {old} RENAME TO {target};");
                let _ = writeln!(script, "ALTER DATABASE {target} WITH ALLOW_CONNECTIONS {open};");
            }
            run(&mut connection, &(script + "COMMIT")).await?;
            ops_core::fault::point("swapped the names back");
        } else if let Some(was) = &before.old {
            if !is(there.as_ref(), was.oid) {
                return Err(self.lost());
            }
            allow(&mut connection, &self.target, was.open).await?;
        }
        let _ = connection.close().await;
        Ok(())
    }

    fn lost(&self) -> Error {
        let Self { target, staged, old } = self;
        Error::new(ErrorKind::NotFound, format!("the old database `{target}` cannot be found"))
            .remedy(format!("somebody renamed it meanwhile; look for `{old}` and `{staged}`"))
    }
}

async fn allow(connection: &mut PgConnection, name: &str, open: bool) -> Result<(), Error> {
    run(connection, &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {open}", ident(name))).await
}

async fn end_sessions(connection: &mut PgConnection, databases: &[&String]) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let left: Vec<String> = sqlx::query_scalar(
            "SELECT format('%s (%s)', a.usename, a.application_name)
            FROM pg_stat_activity a, pg_terminate_backend(a.pid)
            WHERE a.datname = ANY ($1) AND a.pid <> pg_backend_pid()",
        )
        .bind(databases.iter().map(ToString::to_string).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| failed("end the sessions in the database", e))?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let message = format!("sessions do not end: {}", left.join(", "));
            return Err(Error::new(ErrorKind::Database, message).remedy("end them by hand"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
