//! Which rows are old.

use std::time::Duration;

/// Rows of a table that a column of time tells to be old.
///
/// ```
/// use std::time::Duration;
/// use ops_backup::maintenance::OldRows;
///
/// let rows = OldRows::new("public", "events", "created_at", Duration::from_hours(90 * 24));
/// assert_eq!(rows.batch(500).batch_size(), 500);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRows {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) column: String,
    pub(super) age: Duration,
    pub(super) batch: u32,
    pub(super) lock_timeout: Duration,
}

impl OldRows {
    /// The rows whose `column`, a date or a timestamp, lies longer ago than `age`.
    pub fn new(
        schema: impl Into<String>,
        table: impl Into<String>,
        column: impl Into<String>,
        age: Duration,
    ) -> Self {
        let (schema, table, column) = (schema.into(), table.into(), column.into());
        Self { schema, table, column, age, batch: 1000, lock_timeout: Duration::from_secs(5) }
    }

    /// How many rows are deleted in one transaction. Default: 1000.
    pub fn batch(mut self, rows: u32) -> Self {
        self.batch = rows.max(1);
        self
    }

    /// How many rows are deleted in one transaction.
    pub fn batch_size(&self) -> u32 {
        self.batch
    }

    /// How long a batch waits for somebody else's lock. Default: 5 s.
    pub fn lock_timeout(mut self, patience: Duration) -> Self {
        self.lock_timeout = patience;
        self
    }
}
