//! The new database: created, filled, compared with the backup, and asked whether it works.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use ops_core::StepContext;
use ops_core::process::RunContext;
use ops_core::progress::Update;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::connect::{connect, failed, run};
use super::facts::{Facts, properties, scalar};
use super::moment::{
    CATALOG, CATALOG_FORMAT, Catalog, LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES,
};
use super::place::{DatabaseOptions, DatabasePlace};
use super::quote::{ident, qualified};
use super::script::{self, Part};
use super::url::PostgresUrl;
use super::{archive, carry, large};
use crate::component;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName, SourceRecord};
use crate::repository::Repository;
use crate::source::SourceSpec;
use crate::vault::Vault;
use crate::verify::Depth;
use crate::watch::Watch;

/// More of a script than this is in no backup of ours.
const MAX_SCRIPT: u64 = 1 << 30;

/// How long a probe may take.
const PROBE: &str = "60s";

pub(super) struct Stage {
    pub place: DatabasePlace,
    pub set: SetName,
    pub backup: BackupId,
    pub component: SourceSpec,
    pub options: DatabaseOptions,
    /// The new database's name.
    pub database: String,
    pub cx: StepContext,
}

/// All bytes of a unit that is a script or the like.
pub(super) async fn read_all(
    vault: &Vault,
    record: &SourceRecord,
    name: &str,
    cancel: &CancellationToken,
) -> Result<Bytes, Error> {
    component::read_all(&vault.repository, record, name, MAX_SCRIPT, cancel).await
}

/// What the backup says of the database: its facts, and its catalog if it has one.
pub(super) async fn told(
    vault: &Vault,
    record: &SourceRecord,
    cancel: &CancellationToken,
) -> Result<(Facts, Option<Catalog>), Error> {
    let wrong = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "what the backup says of its database cannot be read")
            .caused_by(e)
    };
    if record.kind == "postgres_dump" {
        let bytes = read_all(vault, record, archive::FACTS, cancel).await?;
        return Ok((serde_json::from_slice(&bytes).map_err(wrong)?, None));
    }
    let bytes = read_all(vault, record, CATALOG, cancel).await?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
    let format = value["format"].as_u64().unwrap_or_default();
    if format > u64::from(CATALOG_FORMAT) {
        let message =
            format!("the catalog has format {format}, {CATALOG_FORMAT} is the newest known");
        return Err(Error::new(ErrorKind::Foreign, message)
            .remedy("use the version of the program that wrote it, or a newer one"));
    }
    let catalog: Catalog = serde_json::from_value(value).map_err(wrong)?;
    Ok((catalog.facts.clone(), Some(catalog)))
}

/// Drops what was staged, if anything was, with whoever is connected to it.
pub(super) async fn discard(place: &DatabasePlace, database: &str) -> Result<(), Error> {
    let mut connection = place.maintenance().await?;
    drop_subscriptions(place, &mut connection, database).await?;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(database));
    let done = run(&mut connection, &sql).await;
    let _ = connection.close().await;
    done
}

/// A database with subscriptions cannot be dropped. Those of a restored one are not active, and
/// their slots are somebody else's.
async fn drop_subscriptions(
    place: &DatabasePlace,
    connection: &mut PgConnection,
    database: &str,
) -> Result<(), Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
        WHERE d.datname = $1",
    )
    .bind(database)
    .fetch_all(connection)
    .await
    .map_err(|e| failed("look for subscriptions", e))?;
    if names.is_empty() {
        return Ok(());
    }
    let mut inside = connect(&place.url.with_database(database)).await?;
    for name in names {
        let name = ident(&name);
        run(&mut inside, &format!("ALTER SUBSCRIPTION {name} DISABLE")).await?;
        run(&mut inside, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).await?;
        run(&mut inside, &format!("DROP SUBSCRIPTION {name}")).await?;
    }
    let _ = inside.close().await;
    Ok(())
}

impl Stage {
    pub(super) fn url(&self) -> PostgresUrl {
        self.place.url.with_database(&self.database)
    }

    pub async fn run(self, cancel: &CancellationToken) -> Result<(), Error> {
        discard(&self.place, &self.database).await?;
        let repository = &self.place.vault.repository;
        // Every byte is checked again while it is read; this finds before the work what is missing.
        let backup = (&self.set, self.backup);
        let record =
            &component::verified(repository, backup, &self.component, Depth::Quick, cancel).await?;
        let (facts, catalog) = told(&self.place.vault, record, cancel).await?;
        self.create(&facts).await?;
        ops_core::fault::point("created the new database");
        if let Some(catalog) = catalog {
            if self.options.only.is_empty() {
                self.fill(record, &catalog, cancel).await?;
            } else {
                Box::pin(self.fill_chosen(record, &catalog, cancel)).await?;
            }
        } else {
            let dump =
                component::read(&self.place.vault.repository, record, archive::DUMP, cancel)?;
            let cx = RunContext::from(&self.cx);
            self.place.programs.pg_restore(&self.url(), dump, &self.database, &cx).await?;
        }
        ops_core::fault::point("filled the new database");
        self.conclude().await
    }

    /// Tells how many bytes of rows are read, if nobody is told already.
    pub(super) fn watched(&self, total: u64) -> Repository {
        let repository = &self.place.vault.repository;
        if repository.watch().is_some() {
            return repository.clone();
        }
        let phase = format!("restoring {}", self.place.url.database());
        repository.watched(Watch::new(self.cx.context().progress(), phase, total))
    }

    pub(super) fn tell(&self, what: &str, done: u64, all: u64) {
        let phase = format!("{what} of {}", self.place.url.database());
        self.cx.context().progress().update(&Update::items(phase, done, Some(all)));
    }

    async fn create(&self, facts: &Facts) -> Result<(), Error> {
        let mut connection = self.place.maintenance().await?;
        let target = properties(&mut connection, self.place.url.database()).await?;
        let version = connection.server_version_num().unwrap_or_default();
        let around = target.as_ref().unwrap_or(&facts.properties);
        let sql = carry::create(&self.database, &facts.properties, around, version);
        run(&mut connection, &sql).await?;
        if target.is_none() {
            // Nobody else's settings: those of the backup.
            run(&mut connection, &carry::script(&facts.properties, &self.database)).await?;
        }
        let _ = connection.close().await;
        Ok(())
    }

    pub(super) async fn script(
        &self,
        record: &SourceRecord,
        unit: &str,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let script = read_all(&self.place.vault, record, unit, cancel).await?;
        self.run_script(unit, script).await
    }

    async fn run_script(&self, unit: &str, script: Bytes) -> Result<(), Error> {
        let cx = RunContext::from(&self.cx);
        let done = self.place.programs.psql(&self.url(), script, &cx).await;
        done.map_err(|error| {
            Error::new(ErrorKind::Database, format!("`{unit}` cannot be restored")).caused_by(error)
        })
    }

    async fn fill(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        self.script(record, PRE_DATA, cancel).await?;
        ops_core::fault::point("restored the schema");
        let taken = self.load(record, catalog, cancel).await?;
        if catalog.large_objects {
            let pieces =
                component::read(&self.place.vault.repository, record, LARGE_OBJECTS, cancel)?;
            let mut connection = connect(&self.url()).await?;
            large::fill(&mut connection, pieces).await?;
            let _ = connection.close().await;
        }
        self.script(record, SEQUENCES, cancel).await?;
        ops_core::fault::point("restored the rows");
        // Before triggers, row security and whatever else could come between.
        self.compare(record, catalog, &taken).await?;
        self.compare_sequences(record, catalog, cancel).await?;
        ops_core::fault::point("compared the rows");
        self.after_data(record, cancel).await
    }

    /// Constraints, indexes, triggers and the like: what builds an index, several at once.
    async fn after_data(
        &self,
        record: &SourceRecord,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let script = read_all(&self.place.vault, record, POST_DATA, cancel).await?;
        let Ok(text) = std::str::from_utf8(&script) else {
            return self.run_script(POST_DATA, script).await;
        };
        for part in script::cut(text) {
            match part {
                Part::Script(text) => self.run_script(POST_DATA, text.into()).await?,
                Part::Builds(statements) => {
                    let one = async |statement: String| {
                        let mut connection = connect(&self.url()).await?;
                        run(&mut connection, &statement).await?;
                        let _ = connection.close().await;
                        ops_core::fault::point("built an index");
                        Ok::<_, Error>(())
                    };
                    let mut building = futures::stream::iter(statements)
                        .map(one)
                        .buffer_unordered(self.options.connections.max(1));
                    while let Some(built) = building.next().await {
                        built?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Statistics, without which the first queries would be slow: of several tables at once, the
    /// largest first. Those of a partitioned table are made with it.
    async fn analyze(&self) -> Result<(), Error> {
        let mut connection = connect(&self.url()).await?;
        let tables: Vec<(String, String)> = sqlx::query_as(
            "SELECT n.nspname::text, c.relname::text
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
                AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            ORDER BY pg_relation_size(c.oid) DESC, 1, 2",
        )
        .fetch_all(&mut connection)
        .await
        .map_err(|e| failed("list the tables", e))?;
        let _ = connection.close().await;
        let tables = &Mutex::new(tables.into_iter());
        let one = async |_| {
            let mut connection = connect(&self.url()).await?;
            let next = || tables.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((schema, table)) = next() {
                run(&mut connection, &format!("ANALYZE {}", qualified(&schema, &table))).await?;
            }
            let _ = connection.close().await;
            Ok::<_, Error>(())
        };
        try_join_all((0..self.options.connections.max(1)).map(one)).await.map(drop)
    }

    /// Statistics, and the probes.
    async fn conclude(&self) -> Result<(), Error> {
        self.analyze().await?;
        let mut connection = connect(&self.url()).await?;
        let invalid: Vec<String> = sqlx::query_scalar(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1",
        )
        .fetch_all(&mut connection)
        .await
        .map_err(|e| failed("look at the indexes", e))?;
        if !invalid.is_empty() {
            tracing::warn!(target: "ops", "invalid indexes, as in the backup: {}", invalid.join(", "));
        }
        run(&mut connection, &format!("SET statement_timeout = '{PROBE}'")).await?;
        for probe in &self.options.probes {
            run(&mut connection, "BEGIN READ ONLY").await?;
            let sql = sqlx::AssertSqlSafe(probe.sql.clone());
            let answer: Option<bool> = sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .map_err(|e| failed(&format!("ask the probe `{}`", probe.name), e))?;
            run(&mut connection, "ROLLBACK").await?;
            if answer != Some(true) {
                let message = format!("the restored database fails the probe `{}`", probe.name);
                return Err(Error::new(ErrorKind::Source, message)
                    .remedy("restore another backup, or correct the probe"));
            }
        }
        run(&mut connection, "SET statement_timeout = 0").await?;
        // One commit that waits for the disk, after which all before it is on the disk too.
        let _: String = scalar(&mut connection, "SELECT pg_current_xact_id()::text").await?;
        let _ = connection.close().await;
        Ok(())
    }
}
