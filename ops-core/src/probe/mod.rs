//! Questions about health, answered by healthy, unhealthy, or *unknown*.
//!
//! Unknown is an answer of its own: no data never passes a gate, and never resolves an alert.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::time::Duration;
//! use ops_core::probe::{FnProbe, Health, observe};
//!
//! let probe = FnProbe::new("disk", || async {
//!     match ops_core::fs::space("/".as_ref()) {
//!         Ok(space) if space.available > 0 => Health::Healthy,
//!         Ok(_) => Health::unhealthy("the disk is full"),
//!         Err(error) => Health::unknown(error.to_string()),
//!     }
//! });
//! let seen = observe(&probe, Duration::from_secs(5)).await;
//! assert!(seen.health.is_healthy(), "{seen}");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

mod all_of;
mod command;
mod function;
mod gate;
#[cfg(feature = "http")]
mod http;
mod tcp;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use all_of::AllOf;
pub use command::CommandProbe;
pub use function::FnProbe;
pub use gate::{GateFailure, Requirement, Streak, await_healthy};
#[cfg(feature = "http")]
pub use http::HttpProbe;
pub use tcp::TcpProbe;

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "health")]
pub enum Health {
    /// It is as it should be.
    Healthy,
    /// It is not.
    Unhealthy {
        /// What was expected, and what was found.
        reason: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why not.
        reason: String,
    },
}

impl Health {
    /// It is not as it should be.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self::Unhealthy { reason: reason.into() }
    }

    /// It cannot be told.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }

    /// Whether it is as it should be.
    pub fn is_healthy(&self) -> bool {
        *self == Self::Healthy
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Unhealthy { reason } => write!(f, "unhealthy: {reason}"),
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}

/// A question about health. It changes nothing.
pub trait Probe: fmt::Debug + Send + Sync {
    /// A short stable name, for journals, metrics and messages.
    fn name(&self) -> &str;

    /// Asks once. Callers bound the time, with [`observe`]; dropping the future leaves nothing
    /// behind.
    fn check(&self) -> BoxFuture<'_, Health>;
}

/// An answer, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observation {
    /// The probe's name.
    pub probe: String,
    /// The answer.
    #[serde(flatten)]
    pub health: Health,
    /// How long it took.
    pub latency: Duration,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} (after {:?})", self.probe, self.health, self.latency)
    }
}

/// Asks once, within a deadline. A probe that does not answer in time, or panics, is unknown.
///
/// # Cancellation
/// Dropping the future leaves nothing behind.
pub async fn observe(probe: &dyn Probe, deadline: Duration) -> Observation {
    let started = tokio::time::Instant::now();
    // A probe may also panic before it has a future.
    let answer = AssertUnwindSafe(async { probe.check().await }).catch_unwind();
    let health = match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(health)) => health,
        Ok(Err(_)) => Health::unknown("the probe panicked"),
        Err(_) => Health::unknown(format!("no answer within {deadline:?}")),
    };
    Observation { probe: probe.name().to_owned(), health, latency: started.elapsed() }
}
