//! Indexes that are better built anew, and the work itself.
//!
//! Bloat is estimated from the planner's statistics, as nothing more exact can be had without reading
//! every page: of B-tree indexes on plain columns only, and never too high for one with many equal
//! keys, which the server stores once.

use std::time::Duration;

use ops_core::{Class, StepContext, StepError};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::database::Maintenance;
use crate::error::{Error, ErrorKind};
use crate::source::PostgresUrl;
use crate::source::postgres::connect::{failed, once, run};
use crate::source::postgres::quote::qualified;

/// An index that is better built anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexAdvice {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub index: String,
    /// The table that it is of, as SQL has it.
    pub table: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// How many of them are probably of no use; 0 of an invalid one, of which all are.
    pub wasted: u64,
    /// Whether queries cannot use it: its building failed, or was interrupted.
    pub invalid: bool,
}

impl std::fmt::Display for IndexAdvice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { schema, index, table, bytes, wasted, invalid } = self;
        let name = qualified(schema, index);
        if *invalid {
            return write!(f, "{name} of {table} is invalid: no query uses it ({bytes} bytes)");
        }
        write!(f, "{name} of {table} probably wastes {wasted} of {bytes} bytes")
    }
}

/// Which indexes are worth the work.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct IndexLimits {
    /// Bloated is what wastes this part of its size. Default: 0.5.
    pub ratio: f64,
    /// And as many bytes at least. Default: 16 MiB.
    pub bytes: u64,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self { ratio: 0.5, bytes: 16 << 20 }
    }
}

impl IndexLimits {
    /// Bloated is what wastes this part of its size, and as many bytes.
    pub fn new(ratio: f64, bytes: u64) -> Self {
        Self { ratio, bytes }
    }
}

/// Indexes of the role's own tables that are invalid while nobody builds them, or larger than their
/// rows explain: an item has 8 bytes before its columns and 4 in the page's directory, a page of 8 KiB
/// has 40 for itself and is filled to nine tenths.
const ADVICE: &str = "
    WITH indexes AS (
        SELECT i.indexrelid, n.nspname, c.relname, i.indrelid::regclass::text AS of, i.indisvalid,
            pg_relation_size(c.oid) AS bytes, c.reltuples, am.amname = 'btree' AS btree,
            i.indpred IS NULL AND i.indexprs IS NULL AS plain,
            (SELECT sum(coalesce(s.avg_width, 0)) FROM unnest(i.indkey::int2[]) k
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k
                JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
                LEFT JOIN pg_stats s ON s.schemaname = tn.nspname AND s.tablename = t.relname
                    AND s.attname = a.attname AND NOT s.inherited) AS width,
            (SELECT count(*) FROM pg_stats s JOIN pg_class t ON t.oid = i.indrelid
                JOIN pg_namespace tn ON tn.oid = t.relnamespace
                WHERE s.schemaname = tn.nspname AND s.tablename = t.relname) > 0 AS known
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam
        WHERE c.relkind = 'i' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND c.relpersistence <> 't' AND pg_has_role(c.relowner, 'USAGE')
            AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                WHERE p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND p.relid = i.indrelid)
    ), sized AS (
        SELECT *, CASE WHEN btree AND plain AND known AND indisvalid AND reltuples >= 0 THEN greatest(0,
            bytes - 8192 * (2 + ceil(reltuples * (4 + 8 * ceil((8 + width) / 8.0)) / ((8192 - 40) * 0.9))))
            ELSE 0 END::int8 AS wasted
        FROM indexes
    )
    SELECT nspname::text, relname::text, of, bytes, wasted, NOT indisvalid FROM sized
    WHERE NOT indisvalid OR (wasted >= $1 AND wasted >= $2 * bytes)
    ORDER BY NOT indisvalid DESC, wasted DESC, 1, 2";

impl Maintenance {
    /// The indexes that are better built anew, the invalid ones first. It only reads.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn index_advice(&self, limits: IndexLimits) -> Result<Vec<IndexAdvice>, Error> {
        type Row = (String, String, String, i64, i64, bool);
        let found: Vec<Row> = once(&self.url, async |connection| {
            sqlx::query_as(ADVICE)
                .bind(i64::try_from(limits.bytes).unwrap_or(i64::MAX))
                .bind(limits.ratio)
                .fetch_all(connection)
                .await
                .map_err(|e| failed("look at the indexes", e))
        })
        .await?;
        let number = |n: i64| u64::try_from(n).unwrap_or_default();
        let advice = |(schema, index, table, bytes, wasted, invalid)| IndexAdvice {
            schema,
            index,
            table,
            bytes: number(bytes),
            wasted: number(wasted),
            invalid,
        };
        Ok(found.into_iter().map(advice).collect())
    }
}

/// Which indexes are built anew, and how long each waits for somebody else's lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reindex {
    /// The database, for whoever recovers.
    pub(super) url: PostgresUrl,
    /// Schema and name.
    pub(super) indexes: Vec<(String, String)>,
    pub(super) lock_timeout: Duration,
}

impl Reindex {
    /// The database.
    pub fn database(&self) -> &PostgresUrl {
        &self.url
    }

    pub(super) async fn run(
        &self,
        database: &Maintenance,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let mut connection = database.alone(self.lock_timeout).await?;
        for (schema, index) in &self.indexes {
            cx.go_on()?;
            sweep(&mut connection, schema, index).await?;
            let name = qualified(schema, index);
            run(&mut connection, &format!("REINDEX INDEX CONCURRENTLY {name}")).await?;
            cx.fault_point("built an index anew");
        }
        let _ = connection.close().await;
        Ok(())
    }

    /// What is half built goes; what is whole stays.
    pub(super) async fn clear(&self, database: &Maintenance) -> Result<(), Error> {
        let mut connection = database.alone(self.lock_timeout).await?;
        for (schema, index) in &self.indexes {
            sweep(&mut connection, schema, index).await?;
        }
        let _ = connection.close().await;
        Ok(())
    }
}

/// Drops what an interrupted `REINDEX CONCURRENTLY` left beside an index: an invalid one, or the old
/// one, with a name of its own kind.
async fn sweep(connection: &mut PgConnection, schema: &str, index: &str) -> Result<(), Error> {
    let building: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index p JOIN pg_index i ON i.indrelid = p.relid
            JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE p.datname = current_database() AND n.nspname = $1 AND c.relname = $2)",
    )
    .bind(schema)
    .bind(index)
    .fetch_one(&mut *connection)
    .await
    .map_err(|e| failed("look who builds indexes", e))?;
    if building {
        let message =
            format!("somebody builds an index of the table of {}", qualified(schema, index));
        return Err(Error::new(ErrorKind::Database, message)
            .class_of(Class::Temporary)
            .remedy("wait until that is done; see pg_stat_progress_create_index"));
    }
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, oc.relname) FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_index o ON o.indrelid = i.indrelid JOIN pg_class oc ON oc.oid = o.indexrelid
        WHERE n.nspname = $1 AND c.relname = $2 AND NOT o.indisvalid AND o.indexrelid <> i.indexrelid
            AND oc.relname ~ '_cc(new|old)[0-9]*$'
            AND starts_with($2, regexp_replace(oc.relname, '_cc(new|old)[0-9]*$', ''))",
    )
    .bind(schema)
    .bind(index)
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look for half-built indexes", e))?;
    for name in left {
        run(connection, &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
    }
    Ok(())
}
