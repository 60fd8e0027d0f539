//! The new database: created, filled, compared with the backup, and asked whether it works.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use ops_core::StepContext;
use ops_core::process::RunContext;
use ops_core::progress::Update;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::catalog::{self, Table};
use super::connect::{connect, failed, run};
use super::facts::{Facts, properties, scalar};
use super::moment::{
    CATALOG, CATALOG_FORMAT, Catalog, LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES,
};
use super::place::{DatabaseOptions, DatabasePlace};
use super::quote::ident;
use super::rows::Rows;
use super::script::{self, Part};
use super::url::PostgresUrl;
use super::{archive, carry, copy, large};
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

/// How long a comparison may wait for the next row.
const STALL: Duration = Duration::from_mins(10);

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
    fn watched(&self, total: u64) -> Repository {
        let repository = &self.place.vault.repository;
        if repository.watch().is_some() {
            return repository.clone();
        }
        let phase = format!("restoring {}", self.place.url.database());
        repository.watched(Watch::new(self.cx.context().progress(), phase, total))
    }

    fn tell(&self, what: &str, done: u64, all: u64) {
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
        self.load(record, catalog, cancel).await?;
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
        self.compare(record, catalog).await?;
        self.compare_sequences(record, cancel).await?;
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

    /// Several units at once, each on a connection of its own.
    pub(super) async fn load(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let sizes: BTreeMap<&str, u64> =
            record.units.iter().map(|unit| (&*unit.name, unit.plain_size)).collect();
        let streams = catalog.tables.iter().flat_map(|table| &table.units);
        let size = |unit: &String| sizes.get(&**unit).copied().unwrap_or_default();
        let total = streams.map(size).fold(0, u64::saturating_add);
        let repository = &self.watched(total);
        let (done, left) = (AtomicU64::new(0), AtomicU64::new(catalog.tables.len() as u64));
        let streams: BTreeMap<_, _> = (catalog.tables.iter())
            .map(|table| (table.key(), AtomicU64::new(table.units.len() as u64)))
            .collect();
        let rows = catalog.tables.iter().filter_map(|table| record.tables.get(&table.key()));
        let rows = rows.fold(0, |sum: u64, table| sum.saturating_add(table.rows));
        let units = catalog
            .tables
            .iter()
            .flat_map(|table| table.units.iter().map(move |unit| (table, unit)));
        let one = async |(table, unit): (&Table, &String)| {
            if size(unit) > 0 {
                let bytes = component::read(repository, record, unit, cancel)?;
                let mut connection = connect(&self.url()).await?;
                let taken = copy::fill(&mut connection, &table.copy_in(), bytes).await?;
                let _ = connection.close().await;
                let done = done.fetch_add(taken, Ordering::Relaxed) + taken;
                self.tell("rows", done, rows.max(done));
            }
            ops_core::fault::point("restored a unit");
            let streams = streams.get(&table.key());
            if streams.is_some_and(|streams| streams.fetch_sub(1, Ordering::Relaxed) == 1) {
                let left = left.fetch_sub(1, Ordering::Relaxed) - 1;
                let all = catalog.tables.len() as u64;
                self.tell("tables", all - left, all);
            }
            Ok::<_, Error>(())
        };
        let mut loading =
            futures::stream::iter(units).map(one).buffer_unordered(self.options.connections.max(1));
        while let Some(loaded) = loading.next().await {
            loaded?;
        }
        Ok(())
    }

    /// Reads every row again, and compares what the manifest says of the tables.
    pub(super) async fn compare(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
    ) -> Result<(), Error> {
        let asked = catalog.tables.iter().map(|table| (table.key(), table.copy_out(None)));
        let objects = catalog.large_objects;
        let objects = objects.then(|| (LARGE_OBJECTS.to_owned(), catalog::large_objects()));
        let one = async |(key, statement): (String, String)| {
            let mut connection = connect(&self.url()).await?;
            let rows: Rows = copy::rows(&mut connection, &statement, STALL, None).await?;
            let _ = connection.close().await;
            Ok::<_, Error>((key, rows.record()))
        };
        let mut comparing = futures::stream::iter(asked.chain(objects))
            .map(one)
            .buffer_unordered(self.options.connections.max(1));
        let mut found = BTreeMap::new();
        while let Some(table) = comparing.next().await {
            let (key, rows) = table?;
            found.insert(key, rows);
        }
        let differ: Vec<_> = found
            .iter()
            .filter(|(key, rows)| {
                let repository = &self.place.vault.repository;
                !record.tables.get(*key).is_some_and(|told| repository.are_rows(key, told, rows))
            })
            .map(|(key, rows)| {
                let expected = record.tables.get(key).map_or(0, |table| table.rows);
                format!("`{key}` ({} rows, {expected} in the backup)", rows.rows)
            })
            .chain(record.tables.keys().filter(|key| !found.contains_key(*key)).cloned())
            .collect();
        if !differ.is_empty() {
            let message =
                format!("what was restored differs from the backup: {}", differ.join(", "));
            return Err(Error::new(ErrorKind::Source, message));
        }
        Ok(())
    }

    async fn compare_sequences(
        &self,
        record: &SourceRecord,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let mut connection = connect(&self.url()).await?;
        let sequences = catalog::sequence_values(&mut connection).await?;
        let _ = connection.close().await;
        if sequences.as_bytes()
            != &read_all(&self.place.vault, record, SEQUENCES, cancel).await?[..]
        {
            return Err(Error::new(
                ErrorKind::Source,
                "the restored sequences differ from the backup",
            ));
        }
        Ok(())
    }

    /// Statistics, without which the first queries would be slow, and the probes.
    async fn conclude(&self) -> Result<(), Error> {
        let mut connection = connect(&self.url()).await?;
        run(&mut connection, "ANALYZE").await?;
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
