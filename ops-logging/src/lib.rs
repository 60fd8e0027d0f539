//! Log files that rotate, redact, cannot be forged, and count every line that was lost.
//!
//! ```
//! use ops_logging::{Console, Format, Logging};
//!
//! # let folder = tempfile::tempdir()?;
//! # let directory = folder.path();
//! let guard = Logging::builder()
//!     .directory(directory)
//!     .file_prefix("app")
//!     .format(Format::Human)
//!     .console(Console::Off)
//!     .filter("info,noisy=warn")
//!     .install()?;
//!
//! tracing::info!(user = "ada", "logged in");
//!
//! assert_eq!(guard.counts().written, 1);
//! let file = guard.active_file().expect("a directory was given");
//! assert!(std::fs::read_to_string(file)?.ends_with("logged in user=ada\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Files** are named `app-2026-11-21.000001.log`. The number only ever grows, nothing is ever
//!   renamed, and a restart goes on where the last run stopped. A new one begins at 10 MiB or at
//!   the day's end, whichever comes first; those older than 7 days go.
//! - **Retention** touches what carries exactly this name pattern and this prefix: never the open
//!   file, never a file of somebody else.
//! - **One line is one event.** Control characters and line breaks are escaped, wherever they come
//!   from, and every line is written by one call to a file opened for appending.
//! - **Secrets** that the [`Redactor`](ops_core::Redactor) knows are replaced in messages, fields
//!   and spans.
//! - **Loss is exact**: `emitted = written + dropped`, always. While the disk is full or the folder
//!   gone, lines are counted as lost, and the first line that can be written again says
//!   `lines_lost=N from=... to=... reason=...`. Logging never panics and never fails its caller.
//! - **Processes**: the files of a prefix belong to one process, by a kernel lock. A second one
//!   writes files of its own, `app.p4711-2026-11-21.000001.log`.
//!
//! A program calls [`install`](LoggingBuilder::install), which alone installs a global; a program
//! that composes its own subscriber takes [`layer`](LoggingBuilder::layer).
//!
//! # Limits
//! Lines are written by the thread that logs, and a console that stalls stalls its caller. Files
//! are not compressed. A line that was written survives the death of the process, but not a loss of
//! power: files are flushed to the disk when they are closed. It runs where there are inode numbers
//! and `flock`; Linux is proven.
//!
//! The crate has no features.

mod builder;
mod console;
mod error;
mod file;
mod format;
mod guard;
mod layer;
mod sink;
mod time;

pub use builder::{Logging, LoggingBuilder};
pub use console::Console;
pub use error::{Error, ErrorKind};
pub use file::{Removal, Retention, Segment, SegmentName, WhyRemoved};
pub use format::Format;
pub use guard::LogGuard;
pub use sink::Counts;
pub use time::TimeStyle;
