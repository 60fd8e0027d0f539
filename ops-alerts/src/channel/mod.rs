//! Where alerts go.

mod console;
mod file;
mod memory;
mod webhook;

use std::fmt::Debug;

use futures::future::BoxFuture;
use jiff::Timestamp;

pub use console::ConsoleChannel;
pub use file::FileChannel;
pub use memory::MemoryChannel;
pub use webhook::WebhookChannel;

use crate::alert::Alert;
use crate::error::Error;

/// What a channel can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The size of one message, in bytes. What is larger is cut by the channel.
    pub max_bytes: usize,
}

impl Limits {
    /// Messages of at most so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

/// Proof that a receiver took an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The channel.
    pub channel: String,
    /// When the receiver took it.
    pub at: Timestamp,
    /// What the receiver said of it, such as a status.
    pub answer: String,
}

impl Receipt {
    /// The receiver took it at this moment.
    pub fn new(channel: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { channel: channel.into(), at: Timestamp::now(), answer: answer.into() }
    }
}

/// Takes alerts to people.
///
/// One call is one try: [`Delivery`](crate::Delivery) tries again. The same alert may come twice,
/// and a future may be dropped at any point; then nobody knows whether the alert arrived.
/// [`contract::check`](crate::contract::check) tests an implementation.
pub trait Channel: Debug + Send + Sync {
    /// Its name in receipts, errors and logs; no secret.
    fn name(&self) -> &str;

    /// What it can take.
    fn limits(&self) -> Limits;

    /// Sends an alert once. `Ok` means that the receiver has it. Whether another try can help is
    /// the error's [`Classify::class`](ops_core::Classify::class).
    fn send<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>>;
}
