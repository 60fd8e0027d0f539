//! What PostgreSQL's own programs make of a database or a server, as a source.

use std::path::{Path, PathBuf};

use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, stream};
use ops_core::Refusal;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::connect::{once, reach};
use super::database::{no_path, too_old};
use super::facts::{facts, fingerprint, scalar, system_identifier};
use super::program::{self, Programs};
use super::url::PostgresUrl;
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;
use crate::source::{ByteStream, Dump, Source, Unit};

/// A PostgreSQL database as one `pg_dump --format=custom`, which `pg_restore` reads anywhere.
///
/// It is read by one connection, and large tables one after the other;
/// [`Postgres`](crate::Postgres) is the quicker one.
#[derive(Debug, Clone)]
pub struct PostgresDump {
    url: PostgresUrl,
    programs: Programs,
}

/// The roles and tablespaces of a PostgreSQL server as a script for `psql`, made by
/// `pg_dumpall --globals-only`. The passwords of the roles are in it if a superuser makes it.
#[derive(Debug, Clone)]
pub struct PostgresGlobals {
    url: PostgresUrl,
    programs: Programs,
}

macro_rules! constructors {
    ($name:ident) => {
        impl $name {
            /// At this address.
            pub fn new(url: PostgresUrl) -> Self {
                Self { url, programs: Programs::default() }
            }

            /// The folder with PostgreSQL's client programs. Default: the `PATH`.
            pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
                self.programs = Programs(Some(folder.into()));
                self
            }
        }
    };
}
constructors!(PostgresDump);
constructors!(PostgresGlobals);

/// What a restore must know before it begins.
pub(super) const FACTS: &str = "facts.json";
/// The dump itself.
pub(super) const DUMP: &str = "database.dump";
const GLOBALS: &str = "globals.sql";

async fn preflight(
    programs: &Programs,
    program: &str,
    url: &PostgresUrl,
) -> Result<Vec<Refusal>, Error> {
    let connection = match reach(url).await {
        Ok(connection) => connection,
        Err(refusal) => return Ok(vec![refusal]),
    };
    let server = connection.server_version_num().unwrap_or_default();
    let _ = connection.close().await;
    Ok(too_old(programs, program, url, server).await.into_iter().collect())
}

async fn is_superuser(connection: &mut PgConnection) -> Result<bool, Error> {
    scalar(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").await
}

impl Source for PostgresDump {
    fn kind(&self) -> &'static str {
        "postgres_dump"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        once(&self.url, fingerprint).boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        preflight(&self.programs, "pg_dump", &self.url).boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: FACTS.into() }, Unit { name: DUMP.into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, unit: &'a Unit, backup: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async move {
            if unit.name == FACTS {
                let facts = once(&self.url, facts).await?;
                let bytes = serde_json::to_vec(&facts).map_err(|e| {
                    Error::new(ErrorKind::InvalidInput, "facts cannot be written").caused_by(e)
                })?;
                return Ok(Dump::from(stream::once(async { Ok(bytes.into()) }).boxed()));
            }
            // The chunks are compressed anyway, and better where they are alike.
            let command = self.programs.command("pg_dump", &self.url).args([
                "--no-password",
                "--format=custom",
                "--compress=0",
                "--no-sync",
                "--lock-wait-timeout=30s",
            ]);
            Ok(program::stream(command, &format!("{backup}-dump")).into())
        }
        .boxed()
    }

    fn clean_up(&self, backup: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        async move { program::clean_up(&program::scratch(&format!("{backup}-dump"))) }.boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        _: ByteStream,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(no_path(&self.url)) }.boxed()
    }

    fn smoke<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(no_path(&self.url)) }.boxed()
    }
}

impl Source for PostgresGlobals {
    fn kind(&self) -> &'static str {
        "postgres_globals"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        once(&self.url, system_identifier).boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        preflight(&self.programs, "pg_dumpall", &self.url).boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: GLOBALS.into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, backup: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async move {
            let superuser = once(&self.url, is_superuser).await?;
            let command = self.programs.command("pg_dumpall", &self.url);
            let command = command.args(["--no-password", "--globals-only", "--no-sync"]);
            let command = if superuser { command } else { command.arg("--no-role-passwords") };
            Ok(program::stream(command, &format!("{backup}-globals")).into())
        }
        .boxed()
    }

    fn clean_up(&self, backup: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        async move { program::clean_up(&program::scratch(&format!("{backup}-globals"))) }.boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        _: ByteStream,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(no_path(&self.url)) }.boxed()
    }

    fn smoke<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(no_path(&self.url)) }.boxed()
    }
}
