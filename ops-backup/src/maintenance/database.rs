//! A database that is maintained, as a resource.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use ops_core::{Plan, Resource, ResourceId};
use sqlx::postgres::PgConnection;

use super::fresh::FreshBackup;
use super::reindex::{IndexAdvice, Reindex};
use super::retention::OldRows;
use super::step::{Delete, MaintenanceStep};
use crate::error::{Error, ErrorKind};
use crate::source::PostgresUrl;
use crate::source::postgres::connect::{connect, failed, once, run};
use crate::source::postgres::fingerprint;
use crate::vault::Vault;

/// The advisory lock of every maintenance of a database.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('ops-backup maintenance', 0))";

/// How long it is waited for: the server ends the statement of a client that was killed before it
/// sees that it is gone.
const LEFT: Duration = Duration::from_secs(3);

/// A PostgreSQL database that is maintained.
#[derive(Debug, Clone)]
pub struct Maintenance {
    pub(super) vault: Vault,
    pub(super) url: PostgresUrl,
    fingerprint: String,
}

impl Vault {
    /// A database as a resource for its maintenance; this vault holds its backups. The server must
    /// answer.
    ///
    /// # Errors
    /// If it does not.
    pub async fn maintenance(&self, url: &PostgresUrl) -> Result<Maintenance, Error> {
        let fingerprint = once(url, fingerprint).await?;
        Ok(Maintenance { vault: self.clone(), url: url.clone(), fingerprint })
    }
}

impl Maintenance {
    /// What tells it from every other database: `system_identifier/database`.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// `VACUUM (ANALYZE)` of every table of the role, as a plan. A table that somebody else holds is
    /// left out. What a vacuum does stays.
    ///
    /// # Errors
    /// None but those of the plan itself.
    pub fn plan_vacuum(&self, backup: &FreshBackup) -> Result<Plan, Error> {
        self.begin("vacuum", backup)?.change(self, &MaintenanceStep::Vacuum).map_err(Into::into)
    }

    /// The deletion of old rows in batches, as a plan. The rows are counted now, and deleted after
    /// the commit, within the context's `finish_budget`; what does not fit into that, `recover` goes
    /// on with. Rows that somebody else holds are waited for.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such table; [`ErrorKind::InvalidInput`] if the column
    /// is no date or timestamp, or if other tables would lose rows too.
    pub async fn plan_delete(
        &self,
        backup: &FreshBackup,
        rows: &OldRows,
        now: Timestamp,
    ) -> Result<Plan, Error> {
        let wrong = |kind, why: String| {
            Error::new(kind, format!("table `{}.{}` {why}", rows.schema, rows.table))
        };
        let age = SignedDuration::try_from(rows.age).unwrap_or(SignedDuration::MAX);
        let before = now.checked_sub(age).map_err(|e| {
            wrong(ErrorKind::InvalidInput, "cannot be that old".into()).caused_by(e)
        })?;
        let delete = Delete {
            schema: rows.schema.clone(),
            table: rows.table.clone(),
            column: rows.column.clone(),
            before,
            batch: rows.batch,
            lock_timeout: rows.lock_timeout,
        };
        let count = once(&self.url, async |connection| {
            match delete.is_of_time(connection).await? {
                None => {
                    let why = format!("is not there, or has no column `{}`", rows.column);
                    return Err(wrong(ErrorKind::NotFound, why));
                }
                Some(false) => {
                    let why =
                        format!("has a column `{}` that is no date or timestamp", rows.column);
                    return Err(wrong(ErrorKind::InvalidInput, why));
                }
                Some(true) => {}
            }
            delete.alone(connection).await?;
            delete.count(connection).await
        });
        let count = count.await?;
        let plan = self.begin("delete_old_rows", backup)?.fact("rows", count);
        if count == 0 {
            return Ok(Plan::new("delete_old_rows").fact("rows", 0));
        }
        Ok(plan.finisher(self, &MaintenanceStep::Delete(delete))?)
    }

    /// Indexes built anew with `REINDEX CONCURRENTLY`, as a plan: tables can be read and written
    /// meanwhile. What was built stays when the operation goes back; what is half built goes.
    ///
    /// # Errors
    /// None but those of the plan itself.
    pub fn plan_reindex(
        &self,
        backup: &FreshBackup,
        indexes: &[IndexAdvice],
    ) -> Result<Plan, Error> {
        if indexes.is_empty() {
            return Ok(Plan::new("reindex").fact("indexes", 0));
        }
        let mut plan = self.begin("reindex", backup)?.fact("indexes", indexes.len());
        for advice in indexes {
            plan = plan.fact(format!("{}.{}", advice.schema, advice.index), advice);
        }
        let names = |advice: &IndexAdvice| (advice.schema.clone(), advice.index.clone());
        let indexes = indexes.iter().map(names).collect();
        let (url, lock_timeout) = (self.url.clone(), Duration::from_secs(30));
        let reindex = Reindex { url, indexes, lock_timeout };
        Ok(plan.change(self, &MaintenanceStep::Reindex(reindex))?)
    }

    fn begin(&self, operation: &str, backup: &FreshBackup) -> Result<Plan, Error> {
        Ok(Plan::new(operation)
            .fact("database", &self.url)
            .fact("way back", backup.backup())
            .change(self, &MaintenanceStep::Prove(backup.0.clone()))?)
    }

    /// A session that maintains alone.
    pub(super) async fn alone(&self, lock_timeout: Duration) -> Result<PgConnection, Error> {
        let mut connection = connect(&self.url).await?;
        let begun = Instant::now();
        loop {
            let sole: bool = sqlx::query_scalar(LOCK)
                .fetch_one(&mut connection)
                .await
                .map_err(|e| failed("take the lock of maintenance", e))?;
            if sole {
                break;
            }
            if begun.elapsed() < LEFT {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let message = format!("somebody else maintains `{}` now", self.url);
            return Err(Error::new(ErrorKind::Database, message)
                .class_of(ops_core::Class::Temporary)
                .remedy("wait until that is done; see the advisory locks in pg_locks"));
        }
        let wait = lock_timeout.as_millis().max(1);
        run(&mut connection, &format!("SET lock_timeout = {wait}")).await?;
        // Triggers find their functions as they do for everybody else.
        run(&mut connection, "RESET search_path").await?;
        Ok(connection)
    }
}

impl Resource for Maintenance {
    type Step = MaintenanceStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("postgres_maintenance", &self.fingerprint)
    }
}
