//! The rows of the new database: loaded, and compared with those of the backup.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::catalog::{self, Table};
use super::connect::{connect, failed, run};
use super::copy;
use super::moment::{Catalog, LARGE_OBJECTS, SEQUENCES};
use super::rows::Rows;
use super::stage::{Stage, read_all};
use crate::component;
use crate::error::{Error, ErrorKind};
use crate::manifest::SourceRecord;

/// How long a comparison may wait for the next row.
const STALL: Duration = Duration::from_mins(10);

/// How many rows each table took.
pub(super) type Taken = BTreeMap<String, u64>;

impl Stage {
    /// Several tables at once, each on a connection of its own, the largest first. A table that would
    /// keep one connection busy when the others have nothing left to do is written by several.
    pub(super) async fn load(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<Taken, Error> {
        let sizes: BTreeMap<&str, u64> =
            record.units.iter().map(|unit| (&*unit.name, unit.plain_size)).collect();
        let size = |unit: &String| sizes.get(&**unit).copied().unwrap_or_default();
        let streams = catalog.tables.iter().flat_map(|table| &table.units);
        let total = streams.map(size).fold(0, u64::saturating_add);
        let repository = &self.watched(total);
        let rows = catalog.tables.iter().filter_map(|table| record.tables.get(&table.key()));
        let rows = rows.fold(0, |sum: u64, table| sum.saturating_add(table.rows));
        let done = AtomicU64::new(0);
        let width = self.options.connections.max(1);
        let mut jobs: Vec<(&Table, &[String], u64)> = Vec::new();
        for table in &catalog.tables {
            let whole = table.units.iter().map(size).fold(0, u64::saturating_add);
            if whole <= total / width as u64 {
                jobs.push((table, &table.units, whole));
            } else {
                jobs.extend(table.units.chunks(1).map(|unit| (table, unit, size(&unit[0]))));
            }
        }
        jobs.sort_by_key(|(_, _, size)| u64::MAX - size);
        let one = async |(table, units, bytes): (&Table, &[String], u64)| {
            if bytes == 0 {
                return Ok((table.key(), units.len(), 0));
            }
            let mut connection = connect(&self.url()).await?;
            let alone = units.len() == table.units.len() && table.is_empty(&mut connection).await?;
            if alone {
                // Rows of a table that nobody else can see yet are written as they are to stay: no
                // later query or vacuum has to write their pages again.
                run(&mut connection, &format!("BEGIN; TRUNCATE ONLY {}", table.sql())).await?;
            }
            let mut taken = 0;
            for unit in units.iter().filter(|unit| size(unit) > 0) {
                let bytes = component::read(repository, record, unit, cancel)?;
                let more = copy::fill(&mut connection, &table.copy_in(alone), bytes).await?;
                ops_core::fault::point("restored a unit");
                taken += more;
                let done = done.fetch_add(more, Ordering::Relaxed) + more;
                self.tell("rows", done, rows.max(done));
            }
            if alone {
                run(&mut connection, "COMMIT").await?;
            }
            let _ = connection.close().await;
            Ok::<_, Error>((table.key(), units.len(), taken))
        };
        let mut loading = futures::stream::iter(jobs).map(one).buffer_unordered(width);
        let left = |table: &Table| (table.key(), table.units.len());
        let mut left: BTreeMap<_, _> = catalog.tables.iter().map(left).collect();
        let (mut all, mut filled) = (Taken::new(), 0);
        while let Some(loaded) = loading.next().await {
            let (key, units, taken) = loaded?;
            if let Some(left) = left.get_mut(&key) {
                *left -= units;
                filled += u64::from(*left == 0);
            }
            *all.entry(key).or_default() += taken;
            self.tell("tables", filled, left.len() as u64);
        }
        Ok(all)
    }

    /// Whether the tables took as many rows as the manifest says; or, unless that is enough, whether
    /// every row that they have is one of the backup's.
    pub(super) async fn compare(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        taken: &Taken,
    ) -> Result<(), Error> {
        let differ: Vec<_> = taken
            .iter()
            .map(|(key, rows)| (key, *rows, record.tables.get(key).map_or(0, |told| told.rows)))
            .filter(|(_, rows, told)| rows != told)
            .map(|(key, rows, told)| format!("`{key}` ({rows} rows, {told} in the backup)"))
            .collect();
        if !differ.is_empty() {
            let message =
                format!("what was restored differs from the backup: {}", differ.join(", "));
            return Err(Error::new(ErrorKind::Source, message));
        }
        if self.options.counts_only { Ok(()) } else { self.compare_rows(record, catalog).await }
    }

    /// Reads every row again, and compares what the manifest says of the tables.
    async fn compare_rows(&self, record: &SourceRecord, catalog: &Catalog) -> Result<(), Error> {
        let mut asked = self.parts(catalog).await?;
        if catalog.large_objects {
            asked.push((LARGE_OBJECTS.to_owned(), catalog::large_objects()));
        }
        let mut comparing = futures::stream::iter(asked)
            .map(|(key, statement)| {
                let url = self.url();
                let rows = record.tables.get(&key).map_or_else(Rows::default, Rows::like);
                // On a task of its own, so that several use several processors.
                let read = tokio::spawn(async move {
                    let mut connection = connect(&url).await?;
                    let rows = copy::rows(&mut connection, &statement, STALL, rows, None).await?;
                    let _ = connection.close().await;
                    Ok::<_, Error>((key, rows))
                });
                AbortOnDropHandle::new(read)
            })
            .buffer_unordered(self.options.connections.max(1));
        let mut found: BTreeMap<String, Rows> = BTreeMap::new();
        while let Some(read) = comparing.next().await {
            let (key, rows) = read.map_err(Error::panicked)??;
            match found.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(rows),
                Entry::Occupied(mut entry) => entry.get_mut().merge(&rows),
            }
        }
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(key, rows)| (key, rows.record())).collect();
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

    /// What is asked for each table: of one that was read in parts, as many parts.
    async fn parts(&self, catalog: &Catalog) -> Result<Vec<(String, String)>, Error> {
        let mut connection = connect(&self.url()).await?;
        let mut asked = Vec::new();
        for table in &catalog.tables {
            let key = table.key();
            let units = table.units.len() as u64;
            if units < 2 {
                asked.push((key, table.copy_out(None)));
                continue;
            }
            let blocks: i64 = sqlx::query_scalar(
                "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int8",
            )
            .bind(table.sql())
            .fetch_one(&mut connection)
            .await
            .map_err(|e| failed("look at the size of a table", e))?;
            let step = u64::try_from(blocks).unwrap_or_default().div_ceil(units).max(1);
            for part in 0..units {
                // The last one has no end: it is as long as the table is.
                let to = (part + 1 < units).then_some((part + 1) * step);
                asked.push((key.clone(), table.copy_out(Some((part * step, to)))));
            }
        }
        let _ = connection.close().await;
        Ok(asked)
    }

    pub(super) async fn compare_sequences(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let mut connection = connect(&self.url()).await?;
        let found = catalog::sequence_values(&mut connection).await?;
        let _ = connection.close().await;
        let told = read_all(&self.place.vault, record, SEQUENCES, cancel).await?;
        let same = if catalog.facts.standby {
            // Those of unlogged tables are not in a replica's backup.
            let found: HashSet<_> = found.as_bytes().split(|byte| *byte == b'\n').collect();
            told.split(|byte| *byte == b'\n').all(|line| found.contains(line))
        } else {
            found.as_bytes() == &told[..]
        };
        if !same {
            return Err(Error::new(
                ErrorKind::Source,
                "the restored sequences differ from the backup",
            ));
        }
        Ok(())
    }
}
