//! The steps of maintenance.

use std::time::Duration;

use jiff::Timestamp;
use ops_core::{Class, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::database::Maintenance;
use super::fresh::Proof;
use super::reindex::Reindex;
use crate::error::{Error, ErrorKind};
use crate::source::postgres::connect::{failed, run};
use crate::source::postgres::quote::{ident, literal, qualified};

/// A step of maintenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "maintenance")]
#[non_exhaustive]
pub enum MaintenanceStep {
    /// Looks whether the backup still is a way back.
    Prove(Proof),
    /// `VACUUM (ANALYZE)` of every table.
    Vacuum,
    /// Deletes old rows, in batches.
    Delete(Delete),
    /// Builds indexes anew beside the old ones.
    Reindex(Reindex),
}

/// Which rows are deleted, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) column: String,
    pub(super) before: Timestamp,
    pub(super) batch: u32,
    pub(super) lock_timeout: Duration,
}

impl Delete {
    fn old(&self) -> String {
        // A moment is the same in every time zone; of a date, the session's is UTC.
        let before = literal(&self.before.to_string());
        format!("{} < {before}::timestamptz", ident(&self.column))
    }

    pub(super) async fn count(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let table = qualified(&self.schema, &self.table);
        let sql = format!("SELECT count(*) FROM {table} WHERE {}", self.old());
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await;
        count.map_err(|e| failed("count the old rows", e))
    }

    /// Whether the column is a date or a timestamp; nothing where there is none.
    pub(super) async fn is_of_time(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<bool>, Error> {
        sqlx::query_scalar(
            "SELECT a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND c.relkind IN ('r', 'p')
                AND a.attnum > 0 AND NOT a.attisdropped",
        )
        .bind(&self.schema)
        .bind(&self.table)
        .bind(&self.column)
        .fetch_optional(connection)
        .await
        .map_err(|e| failed("look at the table", e))
    }

    /// Refuses where rows of other tables would go with those of this one, its partitions and its
    /// children.
    pub(super) async fn alone(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let losing: Vec<String> = sqlx::query_scalar(
            "WITH RECURSIVE family(oid) AS (
                SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relname = $2
                UNION SELECT i.inhrelid FROM pg_inherits i JOIN family f ON i.inhparent = f.oid)
            SELECT DISTINCT k.conrelid::regclass::text
            FROM pg_constraint k JOIN family f ON k.confrelid = f.oid
            WHERE k.contype = 'f' AND k.confdeltype = 'c' ORDER BY 1",
        )
        .bind(&self.schema)
        .bind(&self.table)
        .fetch_all(connection)
        .await
        .map_err(|e| failed("look at who refers to the table", e))?;
        if losing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "table `{}.{}` is referred to with ON DELETE CASCADE by {}",
            self.schema,
            self.table,
            losing.join(", ")
        );
        Err(Error::new(ErrorKind::InvalidInput, message).remedy("delete from those first"))
    }

    async fn run(&self, database: &Maintenance, cx: &StepContext) -> Result<(), StepError> {
        let mut connection = database.alone(self.lock_timeout).await?;
        // It may have been some time since the plan.
        self.alone(&mut connection).await?;
        let (table, old, batch) = (qualified(&self.schema, &self.table), self.old(), self.batch);
        // Rows that somebody holds are left for a later batch, so that none waits for another.
        let sql = format!(
            "DELETE FROM {table} WHERE (tableoid, ctid) IN
                (SELECT tableoid, ctid FROM {table} WHERE {old} LIMIT {batch} FOR UPDATE SKIP LOCKED)"
        );
        loop {
            cx.go_on()?;
            let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await;
            let done = done.map_err(|e| failed("delete old rows", e))?.rows_affected();
            cx.fault_point("deleted a batch");
            if done == 0 {
                break;
            }
        }
        let left = self.count(&mut connection).await?;
        let _ = connection.close().await;
        if left > 0 {
            let message = format!("{left} old rows of {table} are held by somebody");
            return Err(Error::new(ErrorKind::Database, message).class_of(Class::Temporary).into());
        }
        Ok(())
    }
}

async fn vacuum(database: &Maintenance, cx: &StepContext) -> Result<(), StepError> {
    let mut connection = database.alone(Duration::from_secs(5)).await?;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT n.nspname::text, c.relname::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
            AND n.nspname <> 'information_schema' AND pg_has_role(c.relowner, 'USAGE')
        ORDER BY 1, 2",
    )
    .fetch_all(&mut connection)
    .await
    .map_err(|e| failed("list the tables", e))?;
    for (schema, table) in tables {
        cx.go_on()?;
        let table = qualified(&schema, &table);
        run(&mut connection, &format!("VACUUM (ANALYZE, SKIP_LOCKED) {table}")).await?;
    }
    let _ = connection.close().await;
    Ok(())
}

impl Step for MaintenanceStep {
    const FAMILY: &'static str = "postgres_maintenance";
    type Env = Maintenance;

    fn name(&self) -> &'static str {
        match self {
            Self::Prove(_) => "prove",
            Self::Vacuum => "vacuum",
            Self::Delete(_) => "delete",
            Self::Reindex(_) => "reindex",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Prove(Proof { set, backup, .. }) => {
                Effect::reads(format!("look whether backup {backup} of set `{set}` is a way back"))
            }
            Self::Vacuum => Effect::retained("vacuum and analyze every table"),
            Self::Reindex(Reindex { indexes, .. }) => {
                let names: Vec<_> = indexes.iter().map(|(s, i)| qualified(s, i)).collect();
                Effect::retained(format!("build anew, beside the old ones: {}", names.join(", ")))
            }
            Self::Delete(Delete { schema, table, column, before, .. }) => {
                Effect::destroys(format!(
                    "delete the rows of `{schema}.{table}` whose `{column}` lies before {before}"
                ))
            }
        }
    }

    async fn check(
        &self,
        database: &Maintenance,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let Self::Prove(proof) = self else { return Ok(Vec::new()) };
        match proof.holds(&database.vault, cx.context().clock().now()).await {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(vec![Refusal::new(error.to_string(), "then plan the maintenance again")])
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn run(&self, database: &Maintenance, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Prove(proof) => {
                Ok(proof.holds(&database.vault, cx.context().clock().now()).await?)
            }
            Self::Vacuum => vacuum(database, cx).await,
            Self::Delete(delete) => delete.run(database, cx).await,
            Self::Reindex(reindex) => reindex.run(database, cx).await,
        }
    }

    async fn undo(&self, database: &Maintenance, _: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Reindex(reindex) => Ok(reindex.clear(database).await?),
            _ => Ok(()),
        }
    }
}
