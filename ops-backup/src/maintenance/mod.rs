//! Maintenance of PostgreSQL databases: vacuum, the deletion of old rows, indexes built anew.
//!
//! All need a [`FreshBackup`], which only a vault with a verified backup of that very database
//! gives. One maintenance at a time works on a database, by an advisory lock.

mod database;
mod fresh;
mod reindex;
mod retention;
mod step;

pub use database::Maintenance;
pub use fresh::FreshBackup;
pub use reindex::{IndexAdvice, IndexLimits, Reindex};
pub use retention::OldRows;
pub use step::MaintenanceStep;
