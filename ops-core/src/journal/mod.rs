//! The durable memory of an operation: one append-only file of checksummed JSON lines.
//!
//! A record is written *before* what it announces, so a recovery in another process knows
//! everything that may have happened. [`State`] is what the records mean; it has no I/O, and
//! running and recovering share it.

#[cfg(feature = "test-util")]
mod failing_io;
mod file;
mod folder;
mod io;
mod line;
#[cfg(test)]
mod proptests;
mod record;
mod state;

#[cfg(feature = "test-util")]
pub use failing_io::{FailingIo, Fault};
#[cfg(not(feature = "test-util"))]
pub(crate) use file::JournalFile;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub use file::JournalFile;
pub(crate) use file::{AppendFailure, Opened, peek, replay};
pub(crate) use folder::Folder;
pub use io::{JournalIo, SystemIo};
pub use record::{Began, End, Entry, JOURNAL_SCHEMA, Record, ResolvedState};
pub use state::{Action, IllegalRecord, Phase, State};
