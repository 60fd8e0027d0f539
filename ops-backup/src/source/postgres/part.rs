//! A part of a database: chosen tables, with everything that has no rows.
//!
//! The schema is restored whole while it is empty, then the tables that were not chosen are dropped,
//! and with them what depends on them: the server knows that better than any reading of scripts. The
//! rows come last, into tables whose triggers are still and whose foreign keys are away.

use std::collections::BTreeSet;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::catalog;
use super::connect::{connect, failed, run};
use super::moment::{Catalog, POST_DATA, PRE_DATA, SEQUENCES};
use super::select::{Chosen, choose};
use super::stage::{Stage, read_all};
use crate::error::{Error, ErrorKind};
use crate::manifest::SourceRecord;

impl Stage {
    /// Restores the schema without rows, drops the tables that were not chosen, and fills the rest.
    pub(super) async fn fill_chosen(
        &self,
        record: &SourceRecord,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let vault = &self.place.vault;
        let chosen = choose(vault, record, Some(catalog), &self.options.only, cancel).await?;
        self.script(record, PRE_DATA, cancel).await?;
        self.script(record, POST_DATA, cancel).await?;
        ops_core::fault::point("restored the schema");
        let mut connection = connect(&self.url()).await?;
        let triggers = still(&mut connection).await?;
        let went = drop_others(&mut connection, &chosen).await?;
        let keys = take_foreign_keys(&mut connection).await?;
        ops_core::fault::point("dropped what was not chosen");
        let mut record = record.clone();
        record.tables.retain(|table, _| chosen.tables.contains(table));
        let mut part = catalog.clone();
        part.tables.retain(|table| chosen.tables.contains(&table.key()));
        part.large_objects = false;
        let taken = self.load(&record, &part, cancel).await?;
        self.sequences_that_are_left(&mut connection, &record, cancel).await?;
        ops_core::fault::point("restored the rows");
        self.compare(&record, &part, &taken).await?;
        ops_core::fault::point("compared the rows");
        for sql in keys {
            run(&mut connection, &sql).await?;
        }
        refresh(&mut connection).await?;
        for trigger in triggers {
            // Those of what was dropped are gone.
            if trigger.is_there(&mut connection).await? {
                run(&mut connection, &trigger.again).await?;
            }
        }
        let _ = connection.close().await;
        for what in went {
            tracing::warn!(target: "ops", "not restored, for it depends on what was left out: {what}");
        }
        Ok(())
    }

    /// The values of the sequences that the new database has.
    async fn sequences_that_are_left(
        &self,
        connection: &mut PgConnection,
        record: &SourceRecord,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let script = read_all(&self.place.vault, record, SEQUENCES, cancel).await?;
        let script = String::from_utf8_lossy(&script).into_owned();
        let beginning = |line: &str| line.rsplitn(3, ", ").last().map(str::to_owned);
        let here = catalog::sequence_values(connection).await?;
        let here: BTreeSet<_> = here.lines().filter_map(beginning).collect();
        for line in script.lines() {
            if beginning(line).is_some_and(|sequence| here.contains(&sequence)) {
                run(connection, line).await?;
            }
        }
        Ok(())
    }
}

/// Those of the user's in this list's order: what may depend on a table that is dropped.
const THINGS: &str = "
    SELECT i.type || ' ' || i.identity FROM (
        SELECT 'pg_class'::regclass AS of, c.oid, c.oid AS on_table, c.relnamespace AS space
        FROM pg_class c WHERE c.relkind IN ('v', 'm')
        UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid, connamespace FROM pg_constraint
        WHERE contype = 'f' AND conparentid = 0
        UNION ALL SELECT 'pg_proc'::regclass, oid, 0, pronamespace FROM pg_proc
        UNION ALL SELECT 'pg_trigger'::regclass, t.oid, tgrelid, c.relnamespace FROM pg_trigger t
        JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal AND tgparentid = 0
        UNION ALL SELECT 'pg_policy'::regclass, p.oid, polrelid, c.relnamespace FROM pg_policy p
        JOIN pg_class c ON c.oid = polrelid
        UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, ev_class, c.relnamespace FROM pg_rewrite r
        JOIN pg_class c ON c.oid = ev_class WHERE rulename <> '_RETURN'
    ) t JOIN pg_namespace n ON n.oid = t.space, LATERAL pg_identify_object(t.of, t.oid, 0) i
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT t.on_table = ANY ($1::int8[]::oid[])
    ORDER BY 1";

/// The columns of the tables that stay.
const COLUMNS: &str = "
    SELECT a.attrelid::regclass || ' column ' || quote_ident(a.attname)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT c.oid = ANY ($1::int8[]::oid[])
    ORDER BY 1";

async fn names(
    connection: &mut PgConnection,
    sql: &'static str,
    dropped: &[i64],
) -> Result<BTreeSet<String>, Error> {
    let found = sqlx::query_scalar(sql).bind(dropped).fetch_all(connection).await;
    let found: Vec<String> = found.map_err(|e| failed("look at what there is", e))?;
    Ok(found.into_iter().collect())
}

/// Drops every table but the chosen ones and those that they are children of. Answers what else went.
async fn drop_others(connection: &mut PgConnection, chosen: &Chosen) -> Result<Vec<String>, Error> {
    let (schemas, tables): (Vec<&str>, Vec<&str>) =
        chosen.names.iter().map(|(schema, table)| (&**schema, &**table)).unzip();
    let others: Vec<(i64, String)> = sqlx::query_as(
        "WITH RECURSIVE chosen(oid) AS (
            SELECT c.oid FROM unnest($1::text[], $2::text[]) u(schema, name)
                JOIN pg_namespace n ON n.nspname = u.schema
                JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = u.name
            UNION SELECT i.inhparent FROM pg_inherits i JOIN chosen ON chosen.oid = i.inhrelid
        )
        SELECT c.oid::int8, c.oid::regclass::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND c.oid NOT IN (SELECT oid FROM chosen)
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1",
    )
    .bind(&schemas)
    .bind(&tables)
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look for the tables that were not chosen", e))?;
    let (oids, others): (Vec<i64>, Vec<String>) = others.into_iter().unzip();
    let things = names(connection, THINGS, &oids).await?;
    let columns = names(connection, COLUMNS, &oids).await?;
    // Their number within a transaction is limited by the server's table of locks.
    for some in others.chunks(200) {
        run(connection, &format!("DROP TABLE IF EXISTS {} CASCADE", some.join(", "))).await?;
    }
    run(connection, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata").await?;
    let left = names(connection, COLUMNS, &oids).await?;
    if let Some(column) = columns.difference(&left).next() {
        let message = format!("{column} is of the type of a table that was left out");
        return Err(Error::new(ErrorKind::InvalidInput, message).remedy("choose that table, too"));
    }
    let left = names(connection, THINGS, &oids).await?;
    Ok(things.difference(&left).cloned().collect())
}

/// Drops the foreign keys, and answers how to add them again: rows come in any order.
async fn take_foreign_keys(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let keys: Vec<(String, String)> = sqlx::query_as(
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname),
            format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname,
                pg_get_constraintdef(c.oid))
            || coalesce(format('; COMMENT ON CONSTRAINT %I ON %s IS %L', c.conname,
                c.conrelid::regclass, obj_description(c.oid, 'pg_constraint')), '')
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
        WHERE c.contype = 'f' AND c.conparentid = 0 AND n.nspname !~ '^pg_'
        ORDER BY c.oid",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look at the foreign keys", e))?;
    let (mut drops, mut adds) = (Vec::new(), Vec::new());
    for (drop, add) in keys {
        drops.push(drop);
        adds.push(add);
    }
    for drop in drops {
        run(connection, &drop).await?;
    }
    Ok(adds)
}

/// A trigger that is still for a while.
struct Trigger {
    /// Of its table; of an event trigger nothing.
    oid: Option<i64>,
    again: String,
}

impl Trigger {
    async fn is_there(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let Some(oid) = self.oid else { return Ok(true) };
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_trigger WHERE oid = $1::int8::oid)")
            .bind(oid)
            .fetch_one(connection)
            .await
            .map_err(|e| failed("look for a trigger", e))
    }
}

/// Keeps triggers and event triggers from firing: their functions see a database that is half there.
async fn still(connection: &mut PgConnection) -> Result<Vec<Trigger>, Error> {
    let rows: Vec<(Option<i64>, String, String)> = sqlx::query_as(
        "SELECT NULL::int8 AS oid, format('ALTER EVENT TRIGGER %I DISABLE', evtname) AS off,
            format('ALTER EVENT TRIGGER %I ENABLE%s', evtname,
                CASE evtenabled WHEN 'R' THEN ' REPLICA' WHEN 'A' THEN ' ALWAYS' ELSE '' END)
        FROM pg_event_trigger WHERE evtenabled <> 'D'
        UNION ALL
        SELECT t.oid::int8, format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname),
            format('ALTER TABLE ONLY %s ENABLE%s TRIGGER %I', t.tgrelid::regclass,
                CASE t.tgenabled WHEN 'R' THEN ' REPLICA' WHEN 'A' THEN ' ALWAYS' ELSE '' END, t.tgname)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relkind IN ('r', 'p')
        ORDER BY oid NULLS FIRST",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look at the triggers", e))?;
    let mut triggers = Vec::new();
    for (oid, off, again) in rows {
        run(connection, &off).await?;
        triggers.push(Trigger { oid, again });
    }
    // Event triggers see every change of the schema, so they are the last to come back.
    triggers.reverse();
    Ok(triggers)
}

/// Fills the materialised views that were filled while their tables were empty.
async fn refresh(connection: &mut PgConnection) -> Result<(), Error> {
    let views: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'm' AND c.relispopulated
        ORDER BY c.oid",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed("look for materialised views", e))?;
    for view in views {
        run(connection, &format!("REFRESH MATERIALIZED VIEW {view}")).await?;
    }
    Ok(())
}

/// Whether a database has no tables, so that a part may be restored over it.
pub(super) async fn is_empty(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(catalog::tables(connection).await?.is_empty())
}
