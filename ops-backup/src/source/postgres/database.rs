//! A PostgreSQL database as a source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::Refusal;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::catalog;
use super::connect::{connect, failed, once, reach, run};
use super::facts::fingerprint;
use super::moment::Moment;
use super::program::{self, Programs};
use super::url::PostgresUrl;
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;
use crate::source::{ByteStream, Dump, Extent, Session, Source, Unit};

/// A PostgreSQL database, 14 or later, dumped by several connections in one snapshot.
///
/// The rows go straight from the server into the backup, tables of more than 64 MiB in ranges; the
/// schema comes from `pg_dump`, which must not be older than the server. It waits for exclusive
/// locks, and holds shared ones on every table until the last row is read: `DROP`, `TRUNCATE`,
/// `VACUUM FULL` and `ALTER TABLE` wait as long, reading and writing does not.
///
/// In it: everything that `pg_dump` takes, and of the server's settings for the database its owner,
/// grants, settings, comment and limits. Not in it: roles and tablespaces, which are the server's
/// ([`SourceSpec::PostgresGlobals`](crate::SourceSpec::PostgresGlobals)); the rows behind foreign
/// tables; statistics.
///
/// It holds 64 MiB at two connections, and besides up to five times the largest row, which the server
/// sends in one piece.
///
/// The role must be allowed to read everything, such as with `GRANT pg_read_all_data`, and to
/// bypass row security where that is on.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub(super) url: PostgresUrl,
    pub(super) connections: usize,
    pub(super) range: u64,
    pub(super) lock_timeout: Duration,
    pub(super) stall: Duration,
    pub(super) programs: Programs,
}

impl Postgres {
    /// The database at this address.
    pub fn new(url: PostgresUrl) -> Self {
        Self {
            url,
            connections: 2,
            range: 64 << 20,
            lock_timeout: Duration::from_secs(30),
            stall: Duration::from_mins(10),
            programs: Programs::default(),
        }
    }

    /// How many connections read rows, besides the one that holds the moment. Default: 2.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }

    /// Tables of more bytes than this are read in ranges of so many. Default: 64 MiB.
    pub fn range(mut self, bytes: u64) -> Self {
        self.range = bytes.max(1);
        self
    }

    /// How long those are waited for who hold exclusive locks, and how long the backup starts over
    /// while tables are altered. Default: 30 s.
    pub fn lock_timeout(mut self, patience: Duration) -> Self {
        self.lock_timeout = patience;
        self
    }

    /// How long the server may send nothing in the middle of a table. Default: 10 min.
    pub fn stall(mut self, patience: Duration) -> Self {
        self.stall = patience;
        self
    }

    /// The folder with `pg_dump` and its kin. Default: the `PATH`.
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Programs(Some(folder.into()));
        self
    }
}

/// Why a program cannot read a server, if it cannot.
pub(super) async fn too_old(
    programs: &Programs,
    program: &str,
    url: &PostgresUrl,
    server: u32,
) -> Option<Refusal> {
    let remedy = format!("install the client programs of PostgreSQL {} or later", server / 10_000);
    match programs.version(program, url).await {
        Ok((major, _)) if major >= server / 10_000 => None,
        Ok((major, minor)) => {
            let reason = format!(
                "`{program}` has version {major}.{minor}, the server has version {}",
                server / 10_000
            );
            Some(Refusal::new(reason, remedy))
        }
        Err(error) => Some(Refusal::of(&error, remedy)),
    }
}

/// What the role may not read: relations by kind and name, and whether row security is in the way.
async fn unreadable(connection: &mut PgConnection) -> Result<Vec<Refusal>, Error> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END,
            format('%I.%I', n.nspname, c.relname),
            CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                ELSE has_table_privilege(c.oid, 'SELECT') END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
            (SELECT rolsuper OR rolbypassrls AS free FROM pg_roles WHERE rolname = current_user) me
        WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                    AND d.refclassid = 'pg_extension'::regclass
                    AND NOT coalesce(c.oid = ANY (e.extconfig), false))
            AND (NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                    ELSE has_table_privilege(c.oid, 'SELECT') END
                OR NOT has_schema_privilege(n.oid, 'USAGE')
                OR c.relrowsecurity AND NOT me.free
                    AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')))
        ORDER BY 2",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look at what may be read", e))?;
    let mut refusals: Vec<_> = rows
        .into_iter()
        .map(|(kind, name, readable)| {
            if readable {
                return Refusal::new(
                    format!("row security or the schema hides {kind} `{name}` from this role"),
                    "back up with a role that has BYPASSRLS and may use the schema, or with the owner",
                );
            }
            Refusal::new(
                format!("this role may not read {kind} `{name}`"),
                "grant it SELECT, or make it a member of pg_read_all_data",
            )
        })
        .collect();
    let objects: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_largeobject_metadata m,
            (SELECT rolsuper AS free FROM pg_roles WHERE rolname = current_user) me
        WHERE NOT me.free AND NOT pg_has_role(m.lomowner, 'USAGE')
            AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))",
    )
    .fetch_one(connection)
    .await
    .map_err(|e| failed("look at the large objects", e))?;
    if objects > 0 {
        refusals.push(Refusal::new(
            format!("this role may not read {objects} large objects"),
            "grant it SELECT on them, or back up with a superuser",
        ));
    }
    Ok(refusals)
}

/// What a restore into a path says.
pub(super) fn no_path(url: &PostgresUrl) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("`{url}` cannot be restored into a file"))
        .remedy("restore it into a database: `Vault::database`")
}

impl Source for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        once(&self.url, fingerprint).boxed()
    }

    fn versions(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("copy_format".into(), "text".into())])
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async {
            let mut connection = match reach(&self.url).await {
                Ok(connection) => connection,
                Err(refusal) => return Ok(vec![refusal]),
            };
            let server = connection.server_version_num().unwrap_or_default();
            let mut reasons = unreadable(&mut connection).await?;
            reasons.extend(too_old(&self.programs, "pg_dump", &self.url, server).await);
            let _ = connection.close().await;
            Ok(reasons)
        }
        .boxed()
    }

    fn extent(&self) -> BoxFuture<'_, Result<Extent, Error>> {
        async {
            let mut connection = connect(&self.url).await?;
            // Whoever alters a table is not waited for.
            run(&mut connection, "SET lock_timeout = '1s'; SET statement_timeout = '30s'").await?;
            let extent = catalog::extent(&mut connection).await;
            let _ = connection.close().await;
            extent
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Err(Error::new(ErrorKind::InvalidInput, "a database is read through a session")) }
            .boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async { Err(Error::new(ErrorKind::InvalidInput, "a database is read through a session")) }
            .boxed()
    }

    fn open(&self, backup: BackupId) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Error>> {
        async move {
            let moment = Moment::hold(self, backup).await?;
            Ok(Some(Box::new(moment) as Box<dyn Session>))
        }
        .boxed()
    }

    fn clean_up(&self, backup: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            for section in ["pre-data", "post-data"] {
                program::clean_up(&program::scratch(&format!("{backup}-{section}")))?;
            }
            Ok(())
        }
        .boxed()
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
