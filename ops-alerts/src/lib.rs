//! Alerts about operations: sent to every channel, tried again within bounds, never silently gone.
//!
//! ```
//! use ops_alerts::{Alert, Channel, MemoryChannel, Severity};
//! use ops_core::Environment;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let channel = MemoryChannel::new("pager");
//! let alert = Alert::new(Severity::High, "the disk of db-1 is full", Environment::Production)
//!     .body("/var/lib/postgresql has 0 bytes left")
//!     .field("host", "db-1");
//!
//! channel.send(&alert).await?;
//! assert_eq!(channel.alerts()[0].title, "the disk of db-1 is full");
//! # Ok::<(), ops_alerts::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - An [`Alert`] has an id that stays the same however often it is sent, so that a receiver can
//!   tell a repetition.
//! - A [`Channel`] takes alerts: [`ConsoleChannel`], [`FileChannel`], [`WebhookChannel`],
//!   [`MemoryChannel`] for tests, or one of your own, for which [`contract::check`] is the test.
//! - [`Delivery`] tries again what may pass, within attempts and a deadline; a channel's
//!   `Retry-After` is honoured.
//! - [`AlertReporter`] hears the reports of operations and turns what went wrong into alerts, for
//!   every channel at once. One channel's failure never hides another; what no channel took is an
//!   error, counted, and kept in a dead-letter file.
//! - [`alert_of`] is the template from a report to an alert, and pure.
//!
//! # Limits
//! There are no rules, routes or escalations, and no outbox: an alert lives as long as its sending,
//! then in the dead-letter file. A process that is killed while it sends loses that alert.
//! Webhooks are not signed.
//!
//! The crate has no features.

mod alert;
mod alert_id;
mod channel;
pub mod contract;
mod dead_letter;
mod delivery;
mod error;
mod reporter;
mod template;

pub use alert::{ALERT_SCHEMA, Alert, Severity};
pub use alert_id::AlertId;
pub use channel::{
    Channel, ConsoleChannel, FileChannel, Limits, MemoryChannel, Receipt, WebhookChannel,
};
pub use dead_letter::DeadLetter;
pub use delivery::Delivery;
pub use error::{Error, ErrorKind};
pub use reporter::{AlertCounts, AlertReporter};
pub use template::{When, alert_of, severity_of};
