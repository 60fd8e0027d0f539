//! One moment of a database, held in several connections.
//!
//! The first statement of each connection is the `LOCK`: it takes no snapshot, so nothing can be
//! truncated or rewritten between the locks and the snapshot. They ask for it all at once, for one
//! that comes later than a `DROP` which queued behind the others would wait for ever: nobody sees a
//! wait that goes through the client. Once they have it, nothing can fail for a lock any more.
//!
//! `pg_dump` takes its locks when it has started, which is late. So it is asked before ours, in a
//! snapshot of its own, and the schema of both snapshots is compared. A database in which objects
//! come and go may never be the same twice, so every other attempt asks it under our locks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use ops_core::Class;
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::catalog::{self, Listed, Table};
use super::connect::{connect, failed, run};
use super::copy;
use super::database::Postgres;
use super::facts::{Facts, facts, scalar};
use super::program;
use super::quote::literal;
use super::rows::Rows;
use super::signature::signature;
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;
use crate::source::{Dump, Learned, Session, Unit};

/// The largest schema that is held in memory.
const MAX_SCHEMA: usize = 64 << 20;

/// The format of the unit `catalog.json`.
pub(super) const CATALOG_FORMAT: u32 = 1;

pub(super) const CATALOG: &str = "catalog.json";
pub(super) const PRE_DATA: &str = "pre-data.sql";
pub(super) const POST_DATA: &str = "post-data.sql";
pub(super) const SEQUENCES: &str = "sequences.sql";
pub(super) const LARGE_OBJECTS: &str = "large objects";

/// How long after the first connection the others may get their locks, and so much longer for each
/// table. Whoever waits for an exclusive lock waits for us as long, and all behind it.
const AT_ONCE: Duration = Duration::from_secs(1);
const A_TABLE: Duration = Duration::from_millis(2);

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What a restore must know before it begins: the unit `catalog.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Catalog {
    pub format: u32,
    pub facts: Facts,
    pub tables: Vec<Table>,
    pub large_objects: bool,
}

/// What a unit consists of.
#[derive(Debug, Clone)]
enum Content {
    Ready(Bytes),
    /// What is asked, and whose rows they are.
    Copy(String, String),
}

/// One moment of a database.
#[derive(Debug)]
pub(super) struct Moment {
    coordinator: PgConnection,
    /// Those that read nothing now.
    workers: Arc<Mutex<Vec<PgConnection>>>,
    units: Vec<Unit>,
    contents: BTreeMap<String, Content>,
    width: usize,
    stall: Duration,
    facts: Facts,
    /// The rows of each unit that was read to its end.
    read: Arc<Mutex<BTreeMap<String, Rows>>>,
}

/// Why a moment could not be held.
enum Missed {
    /// The database changed on the way, or somebody waits for a lock.
    Again(Error),
    Failed(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// `SQLSTATE`s of what was dropped or is about to be altered.
const MOVING: [&str; 6] = ["55P03", "42P01", "3F000", "40P01", "XX000", "42704"];

fn moving(action: &str, source: sqlx::Error) -> Missed {
    let code = super::connect::code(&source).unwrap_or_default();
    let error = failed(action, source);
    if MOVING.contains(&&*code) { Missed::Again(error) } else { Missed::Failed(error) }
}

impl Moment {
    /// Holds one moment, and starts over as long as the database is being altered.
    pub async fn hold(source: &Postgres, backup: BackupId) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        let mut early = true;
        loop {
            match Self::attempt(source, backup, early).await {
                Ok(moment) => return Ok(moment),
                Err(Missed::Failed(error)) => return Err(error),
                Err(Missed::Again(error)) if begun.elapsed() + pause > source.lock_timeout => {
                    let message = format!("`{}` is altered all the while", source.url);
                    return Err(Error::new(ErrorKind::Changed, message)
                        .remedy("back up when no tables are created, altered or dropped")
                        .class_of(Class::Temporary)
                        .caused_by(error));
                }
                Err(Missed::Again(error)) => {
                    tracing::debug!(target: "ops", "the backup starts over: {error}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                    early = !early;
                }
            }
        }
    }

    async fn attempt(source: &Postgres, backup: BackupId, early: bool) -> Result<Self, Missed> {
        let said = if early { Some(scout(source, backup).await?) } else { None };
        let all = (0..=source.connections).map(|_| async {
            let mut connection = connect(&source.url).await?;
            let wait = source.lock_timeout.as_millis().max(1);
            run(&mut connection, &format!("SET lock_timeout = {wait}")).await?;
            run(&mut connection, BEGIN).await?;
            Ok::<_, Error>(connection)
        });
        let (mut lister, mut workers) = tokio::try_join!(connect(&source.url), try_join_all(all))?;
        let before = catalog::tables(&mut lister).await?;
        let _ = lister.close().await;
        lock_all(&mut workers, &before).await?;
        ops_core::fault::point("locked the tables");
        let mut coordinator = workers.remove(0);
        let snapshot: String = scalar(&mut coordinator, "SELECT pg_export_snapshot()").await?;
        if catalog::tables(&mut coordinator).await? != before {
            return Err(changed("tables came or went before they were locked"));
        }
        let take = format!("SET TRANSACTION SNAPSHOT {}", literal(&snapshot));
        try_join_all(workers.iter_mut().map(|worker| run(worker, &take))).await?;
        let (before_data, after_data) = match said {
            Some(Said { signature: said, before_data, after_data }) => {
                if signature(&mut coordinator).await? != said {
                    return Err(changed("the schema was altered while it was read"));
                }
                (before_data, after_data)
            }
            // Whoever makes it wait for a lock waits for us: longer is of no use.
            None => schema(source, &snapshot, backup, Duration::from_millis(250)).await?,
        };
        let facts = facts(&mut coordinator).await?;
        if !facts.unread.is_empty() {
            let tables = facts.unread.join(", ");
            tracing::warn!(target: "ops", "a replica has no rows of unlogged tables: {tables}");
        }
        let sequences = catalog::sequence_values(&mut coordinator).await?;
        let large_objects: bool =
            scalar(&mut coordinator, "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").await?;
        let mut moment = Self {
            coordinator,
            width: workers.len(),
            workers: Arc::new(Mutex::new(workers)),
            units: Vec::new(),
            contents: BTreeMap::new(),
            stall: source.stall,
            facts,
            read: Arc::default(),
        };
        moment.add(PRE_DATA, Content::Ready(before_data));
        moment.add(POST_DATA, Content::Ready(after_data));
        moment.add(SEQUENCES, Content::Ready(sequences.into()));
        let tables = moment.cut(before, source.range).await?;
        if large_objects {
            let copy = Content::Copy(catalog::large_objects(), LARGE_OBJECTS.to_owned());
            moment.add(LARGE_OBJECTS, copy);
        }
        let catalog =
            Catalog { format: CATALOG_FORMAT, facts: moment.facts.clone(), tables, large_objects };
        let catalog = serde_json::to_vec(&catalog).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "the catalog cannot be written").caused_by(e)
        })?;
        moment.add(CATALOG, Content::Ready(catalog.into()));
        // The catalog first, so that whoever reads the manifest sees what follows.
        moment.units.rotate_right(1);
        Ok(moment)
    }

    fn add(&mut self, name: impl Into<String>, content: Content) {
        let name = name.into();
        self.units.push(Unit { name: name.clone() });
        self.contents.insert(name, content);
    }

    /// Makes units of the tables, the larger first; of a large table several.
    async fn cut(&mut self, tables: Vec<Listed>, range: u64) -> Result<Vec<Table>, Error> {
        let oids: Vec<i64> = tables.iter().map(|listed| listed.oid).collect();
        let sizes: Vec<i64> = sqlx::query_scalar(
            "SELECT coalesce(pg_relation_size(o::oid), 0) / current_setting('block_size')::int8
            FROM unnest($1) WITH ORDINALITY AS u(o, at) ORDER BY at",
        )
        .bind(oids)
        .fetch_all(&mut self.coordinator)
        .await
        .map_err(|e| failed("look at the sizes of the tables", e))?;
        let block: i64 =
            scalar(&mut self.coordinator, "SELECT current_setting('block_size')::int8").await?;
        let step = (range / u64::try_from(block).unwrap_or(8192).max(1)).max(1);
        let mut tables: Vec<_> = tables
            .into_iter()
            .zip(sizes)
            .filter(|(listed, _)| listed.data)
            .map(|(listed, blocks)| (listed, u64::try_from(blocks).unwrap_or_default()))
            .collect();
        tables.sort_by_key(|(listed, blocks)| (u64::MAX - blocks, listed.table.key()));
        let mut cut = Vec::new();
        for (Listed { mut table, heap, .. }, blocks) in tables {
            let whole = !heap || !table.condition.is_empty() || blocks <= step;
            let key = table.key();
            let mut from = 0;
            loop {
                // The last one has no end: it is as long as the table is.
                let to = (!whole && from + step < blocks).then_some(from + step);
                let name = match (whole, to) {
                    (true, _) => format!("table {key}"),
                    (false, Some(to)) => format!("table {key} blocks {from}..{to}"),
                    (false, None) => format!("table {key} blocks {from}.."),
                };
                let ranged = (!whole).then_some((from, to));
                self.add(&*name, Content::Copy(table.copy_out(ranged), key.clone()));
                table.units.push(name);
                match to {
                    Some(to) => from = to,
                    None => break,
                }
            }
            cut.push(table);
        }
        Ok(cut)
    }

    async fn conclude(mut self) -> Result<Learned, Error> {
        // Its transaction may be long dead, but then so is the server.
        let held: bool = scalar(&mut self.coordinator, "SELECT true").await?;
        debug_assert!(held);
        let read = std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
        for (unit, content) in &self.contents {
            let Content::Copy(_, table) = content else { continue };
            let Some(rows) = read.get(unit) else {
                let message = format!("unit `{unit}` was not read to its end");
                return Err(Error::new(ErrorKind::Source, message));
            };
            tables.entry(table.clone()).or_default().merge(rows);
        }
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in workers.into_iter().chain([self.coordinator]) {
            // All is read; whether the server hears that we leave changes nothing.
            let _ = connection.close().await;
        }
        Ok(Learned {
            facts: self.facts.told(),
            tables: tables.into_iter().map(|(name, rows)| (name, rows.record())).collect(),
        })
    }
}

/// Locks the tables in each connection. Once one has them, the others have them at once or not at
/// all.
async fn lock_all(connections: &mut [PgConnection], tables: &[Listed]) -> Result<(), Missed> {
    let Some(sql) = catalog::lock(tables) else { return Ok(()) };
    let mut locking: FuturesUnordered<_> = connections
        .iter_mut()
        .map(|connection| sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(connection))
        .collect();
    let moved = |e| moving("lock the tables", e);
    locking.next().await.transpose().map_err(moved)?;
    let rest = async {
        while let Some(locked) = locking.next().await {
            locked.map_err(moved)?;
        }
        Ok(())
    };
    let late = |_| changed("somebody queued for an exclusive lock between ours");
    let patience = AT_ONCE + A_TABLE * u32::try_from(tables.len()).unwrap_or(u32::MAX);
    tokio::time::timeout(patience, rest).await.map_err(late)?
}

fn changed(why: &str) -> Missed {
    Missed::Again(Error::new(ErrorKind::Changed, why))
}

/// What `pg_dump` said before the tables were locked, and of which schema.
struct Said {
    signature: String,
    before_data: Bytes,
    after_data: Bytes,
}

async fn scout(source: &Postgres, backup: BackupId) -> Result<Said, Missed> {
    let mut scout = connect(&source.url).await?;
    run(&mut scout, BEGIN).await?;
    let snapshot: String = scalar(&mut scout, "SELECT pg_export_snapshot()").await?;
    let signature = signature(&mut scout).await?;
    let (before_data, after_data) = schema(source, &snapshot, backup, source.lock_timeout).await?;
    let _ = scout.close().await;
    Ok(Said { signature, before_data, after_data })
}

/// The schema before and after the rows.
async fn schema(
    source: &Postgres,
    snapshot: &str,
    backup: BackupId,
    wait: Duration,
) -> Result<(Bytes, Bytes), Missed> {
    let section = |section| section_of(source, snapshot, section, backup, wait);
    tokio::try_join!(section("pre-data"), section("post-data")).map_err(|error| {
        // It waits for locks as long as it was told, and trips over what was dropped.
        let told = ops_core::error::chain(&error).join(": ");
        let moved = [
            "lock timeout",
            "does not exist",
            "could not open",
            "cache lookup",
            "statement timeout",
        ];
        let moved = moved.iter().any(|sign| told.contains(sign));
        if moved { Missed::Again(error) } else { Missed::Failed(error) }
    })
}

async fn section_of(
    source: &Postgres,
    snapshot: &str,
    section: &str,
    backup: BackupId,
    wait: Duration,
) -> Result<Bytes, Error> {
    let command = source
        .programs
        .command("pg_dump", &source.url)
        .args(["--no-password", "--format=plain", "--encoding=UTF8", "--no-sync"])
        .arg(format!("--lock-wait-timeout={}", wait.as_millis()))
        .arg(format!("--snapshot={snapshot}"))
        .arg(format!("--section={section}"))
        .deadline(Duration::from_mins(15));
    program::collect(command, &format!("{backup}-{section}"), MAX_SCHEMA).await
}

impl Session for Moment {
    fn units(&self) -> &[Unit] {
        &self.units
    }

    fn width(&self) -> usize {
        self.width
    }

    fn dump<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, Result<Dump, Error>> {
        async move {
            let missing =
                |what: &str| Error::new(ErrorKind::InvalidInput, format!("`{}` {what}", unit.name));
            match self.contents.get(&unit.name) {
                None => Err(missing("is no unit of this moment")),
                Some(Content::Ready(bytes)) => {
                    let bytes = bytes.clone();
                    Ok(Dump::from(stream::once(async move { Ok(bytes) }).boxed()))
                }
                Some(Content::Copy(statement, _)) => {
                    let worker = self.workers.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let worker = worker.ok_or_else(|| missing("has no connection that is free"))?;
                    let out = copy::Out {
                        statement: statement.clone(),
                        unit: unit.name.clone(),
                        stall: self.stall,
                        workers: self.workers.clone(),
                        read: self.read.clone(),
                    };
                    Ok(Dump::from(out.stream(worker)))
                }
            }
        }
        .boxed()
    }

    fn rows(&self) -> u64 {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.values().map(Rows::count).sum()
    }

    fn tables(&self) -> (u64, u64) {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<&str, bool> = BTreeMap::new();
        for (unit, content) in &self.contents {
            if let Content::Copy(_, table) = content {
                *all.entry(table).or_insert(true) &= read.contains_key(unit);
            }
        }
        let done = all.values().filter(|done| **done).count();
        (done as u64, all.len() as u64)
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Learned, Error>> {
        self.conclude().boxed()
    }
}
