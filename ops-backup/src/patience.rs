//! How long the calls of a store may take, and how often they are made.

use std::time::Duration;

use ops_core::SystemClock;
use ops_core::retry::Retry;

use crate::error::{Error, ErrorKind};

/// How long each call of a store may take, and how often it is made again after a temporary
/// failure. Every call that this crate makes may be made twice.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Patience {
    /// How long one call may take. Default: 2 min, which is a chunk of 8 MiB at 70 kB/s.
    pub deadline: Duration,
    /// How often, and with which delays. Default: five attempts, all begun within 5 min.
    pub retry: Retry,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(2),
            retry: Retry::new().budget(Duration::from_mins(5)),
        }
    }
}

impl Patience {
    /// How long one call may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often, and with which delays, a call is made again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Makes the call, until it succeeds, fails for good, or the patience is at its end.
    pub(crate) async fn call<T, F>(
        &self,
        action: &str,
        key: &str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.retry.run(&SystemClock::new(), || bounded(self.deadline, action, key, call())).await
    }
}

/// A future that has to be ready in time.
pub(crate) async fn bounded<T>(
    deadline: Duration,
    action: &str,
    key: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        let message = format!("cannot {action} object `{key}`: no answer within {deadline:?}");
        Err(Error::new(ErrorKind::Store, message))
    })
}
