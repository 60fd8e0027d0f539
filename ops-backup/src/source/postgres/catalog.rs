//! What is in a database: tables with their columns, sequences, large objects.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::connect::failed;
use super::quote::{ident, literal, qualified, readable};
use crate::error::Error;
use crate::source::Extent;

/// Schemas that belong to nobody's application.
const OURS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Whether a relation belongs to an extension, and if it is one of its configuration tables, which
/// rows of it are the user's.
const EXTENSION: &str = "
    LEFT JOIN LATERAL (
        SELECT c.oid = ANY (coalesce(e.extconfig, '{}')) AS configures,
            coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '') AS condition
        FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    ) x ON true";

/// Whether a server lacks the content of a relation: a replica has none of what is unlogged.
const UNREAD: &str = "(c.relpersistence = 'u' AND pg_is_in_recovery())";

/// A table that is locked; one with `data` has rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub oid: i64,
    pub table: Table,
    /// Whether it can have rows of its own: a partitioned table cannot, nor an unlogged one on a replica.
    pub data: bool,
    /// Whether ranges of it can be read.
    pub heap: bool,
}

/// What is copied of a table, and into what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub schema: String,
    pub name: String,
    /// Without the generated ones.
    pub columns: Vec<String>,
    /// Of an extension's configuration table: which rows are the user's, as a `WHERE`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// The streams that hold its rows.
    pub units: Vec<String>,
}

impl Table {
    pub fn key(&self) -> String {
        readable(&self.schema, &self.name)
    }

    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The rows in these blocks, from the first to before the second.
    pub fn copy_out(&self, blocks: Option<(u64, Option<u64>)>) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| ident(column)).collect();
        let rows = match blocks {
            None | Some((0, None)) => self.condition.clone(),
            Some((from, None)) => format!("WHERE ctid >= '({from},0)'"),
            Some((from, Some(to))) => format!("WHERE ctid >= '({from},0)' AND ctid < '({to},0)'"),
        };
        format!("COPY (SELECT {} FROM ONLY {} {rows}) TO STDOUT", columns.join(", "), self.sql())
    }

    /// `frozen` if the transaction has truncated it.
    pub fn copy_in(&self, frozen: bool) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| ident(column)).collect();
        // Without a list all columns are meant that are not generated: here there is none.
        let list =
            if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let frozen = if frozen { " WITH (FREEZE)" } else { "" };
        format!("COPY {}{list} FROM STDIN{frozen}", self.sql())
    }

    /// Whether it is an ordinary table without rows: an extension may have given its own some.
    pub async fn is_empty(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let sql = format!(
            "SELECT relkind = 'r' AND relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
                AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                    AND objid = c.oid AND deptype = 'e')
                AND NOT EXISTS (SELECT FROM ONLY {}) FROM pg_class c WHERE oid = $1::regclass",
            self.sql()
        );
        let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(self.sql());
        asked.fetch_one(connection).await.map_err(|e| failed("look at a new table", e))
    }
}

type Row = (i64, String, String, bool, bool, Vec<String>, String);

/// The tables to lock, in the order of their names.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<Listed>, Error> {
    let sql = format!(
        "SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind = 'r' AND NOT {UNREAD},
            coalesce(am.amname = 'heap', false),
            ARRAY(SELECT a.attname::text FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.attgenerated = '' ORDER BY a.attnum),
            coalesce(x.condition, '')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_am am ON am.oid = c.relam {EXTENSION}
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OURS}
            AND coalesce(x.configures, true)
        ORDER BY n.nspname, c.relname"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
        .map_err(|e| failed("list the tables", e))?;
    let listed = |(oid, schema, name, data, heap, columns, condition): Row| Listed {
        oid,
        data,
        heap,
        table: Table { schema, name, columns, condition, units: Vec::new() },
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// `LOCK TABLE` for all of these. Of no tables there is none.
pub(super) fn lock(tables: &[Listed]) -> Option<String> {
    let names: Vec<_> =
        tables.iter().map(|listed| format!("ONLY {}", listed.table.sql())).collect();
    (!names.is_empty()).then(|| format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")))
}

/// The tables whose rows this server does not have.
pub(super) async fn unread(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND {UNREAD} AND {OURS} ORDER BY 1"
    );
    let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await;
    rows.map_err(|e| failed("list the unlogged tables", e))
}

/// About how many bytes and rows the tables have. In text, rows are shorter by what the server
/// keeps before each of them.
pub(super) async fn extent(connection: &mut PgConnection) -> Result<Extent, Error> {
    let sql = format!(
        "SELECT coalesce(sum(s.bytes - 28 * greatest(c.reltuples, 0)), 0)::int8
                + pg_relation_size('pg_largeobject'),
            coalesce(sum(c.reltuples), 0)::int8,
            coalesce(bool_and(c.reltuples >= 0 OR s.bytes = 0), true)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
            LATERAL (SELECT coalesce(pg_relation_size(c.oid), 0)
                + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) AS bytes) s
        WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT {UNREAD} AND {OURS}"
    );
    let (bytes, rows, known): (i64, i64, bool) = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .map_err(|e| failed("look at the sizes of the tables", e))?;
    let number = |number| u64::try_from(number).unwrap_or_default();
    let extent = Extent::default().bytes(number(bytes));
    // A table that nobody has analysed tells no rows.
    Ok(if known { extent.rows(number(rows)) } else { extent })
}

/// The sequences, schema and name.
pub(super) async fn sequences(
    connection: &mut PgConnection,
) -> Result<Vec<(String, String)>, Error> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {EXTENSION}
        WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND NOT {UNREAD} AND {OURS}
            AND coalesce(x.configures, true)
        ORDER BY n.nspname, c.relname"
    );
    let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection).await;
    rows.map_err(|e| failed("list the sequences", e))
}

/// A `setval` for each sequence, a line each. Sequences know no snapshot: read after it, none is
/// behind the rows that it gave numbers to.
pub(super) async fn sequence_values(connection: &mut PgConnection) -> Result<String, Error> {
    let sequences = sequences(connection).await?;
    let mut script = String::new();
    for part in sequences.chunks(200) {
        let selects = part.iter().enumerate().map(|(at, (schema, name))| {
            format!("SELECT {at}, last_value, is_called FROM {}", qualified(schema, name))
        });
        let sql = selects.collect::<Vec<_>>().join(" UNION ALL ") + " ORDER BY 1";
        let values: Vec<(i32, i64, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await
            .map_err(|e| failed("read the sequences", e))?;
        for ((schema, name), (_, value, called)) in part.iter().zip(values) {
            let name = literal(&qualified(schema, name));
            let _ = writeln!(script, "SELECT pg_catalog.setval({name}, {value}, {called});");
        }
    }
    Ok(script)
}

/// Pieces of large objects are this long.
const PIECE: u64 = 256 << 10;

/// The pieces of every large object, as rows of its id, the offset and the bytes.
///
/// Through the functions for large objects, because only a superuser may read their table.
pub(super) fn large_objects() -> String {
    // The arguments of `+` are evaluated from left to right: the size first, then the close.
    format!(
        "COPY (SELECT o.oid, p.piece, lo_get(o.oid, p.piece, {PIECE})
        FROM (SELECT f.oid, lo_lseek64(f.fd, 0, 2) + 0 * lo_close(f.fd) AS size
            FROM (SELECT m.oid, lo_open(m.oid, 262144) AS fd
                FROM pg_largeobject_metadata m ORDER BY m.oid OFFSET 0) f OFFSET 0) o
            CROSS JOIN LATERAL generate_series(0::int8, greatest(o.size - 1, 0), {PIECE}) AS p(piece)
        ) TO STDOUT"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_quoted_and_cut() {
        let mut table = Table {
            schema: "odd \"s\"".into(),
            name: "select".into(),
            columns: vec!["a".into(), "B \"b\"".into()],
            condition: String::new(),
            units: Vec::new(),
        };
        let from = r#"SELECT "a", "B ""b""" FROM ONLY "odd ""s"""."select""#;
        let check = |table: &Table, blocks, expected: String| {
            assert_eq!(table.copy_out(blocks), expected);
        };
        check(
            &table,
            Some((0, Some(8))),
            format!("COPY ({from} WHERE ctid >= '(0,0)' AND ctid < '(8,0)') TO STDOUT"),
        );
        check(&table, Some((8, None)), format!("COPY ({from} WHERE ctid >= '(8,0)') TO STDOUT"));
        assert_eq!(
            table.copy_in(true),
            r#"COPY "odd ""s"""."select" ("a", "B ""b""") FROM STDIN WITH (FREEZE)"#
        );
        assert_eq!(table.key(), r#""odd ""s""".select"#);
        table.condition = "WHERE a > 1".into();
        check(&table, None, format!("COPY ({from} WHERE a > 1) TO STDOUT"));
        table.columns.clear();
        assert_eq!(table.copy_in(false), r#"COPY "odd ""s"""."select" FROM STDIN"#);
    }
}
