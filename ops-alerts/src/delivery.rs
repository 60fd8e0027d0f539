//! Trying again, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::FutureExt as _;
use ops_core::retry::Retry;
use ops_core::{Clock, SystemClock};

use crate::alert::Alert;
use crate::channel::{Channel, Receipt};
use crate::error::{Error, ErrorKind};

/// How often and how long one channel is tried with one alert.
#[derive(Debug, Clone)]
pub struct Delivery {
    retry: Retry,
    deadline: Duration,
    clock: Arc<dyn Clock>,
}

impl Default for Delivery {
    /// 5 attempts within 4 seconds, 200 ms after the first failure, then twice as long each time.
    fn default() -> Self {
        Self {
            retry: Retry::new()
                .attempts(5)
                .first_delay(Duration::from_millis(200))
                .longest_delay(Duration::from_secs(30))
                .also_unknown(),
            deadline: Duration::from_secs(4),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl Delivery {
    /// At most so many attempts, 1 or more. Default 5.
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.retry = self.retry.attempts(attempts);
        self
    }

    /// How long to wait after the first failure. Default 200 ms.
    pub fn first(mut self, delay: Duration) -> Self {
        self.retry = self.retry.first_delay(delay);
        self
    }

    /// How long to wait at most, unless the receiver asks for more. Default 30 seconds.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.retry = self.retry.longest_delay(delay);
        self
    }

    /// How long all attempts take together at most. Default 4 seconds, which is less than what an
    /// operation waits for its reporters: raise the context's `reporter_budget` with it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The time source. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sends an alert and tries again what is temporary or unknown: receivers know an alert by its
    /// id. Dropping the future gives up; the alert may have arrived.
    ///
    /// # Errors
    /// The last error of the channel; [`ErrorKind::Unknown`] if it hangs or panics.
    pub async fn send(&self, channel: &dyn Channel, alert: &Alert) -> Result<Receipt, Error> {
        let clock = &*self.clock;
        let until = clock.elapsed().saturating_add(self.deadline);
        let attempts = AtomicUsize::new(0);
        let once = || {
            attempts.fetch_add(1, Ordering::Relaxed);
            self.once(channel, alert, until.saturating_sub(clock.elapsed()))
        };
        let retry = self.retry.clone().budget(self.deadline);
        let sent = retry.run_hinted(clock, Error::retry_after, once).await;
        sent.map_err(|error| error.with("attempts", attempts.into_inner()))
    }

    /// One attempt. A channel that hangs or panics is an error like any other.
    async fn once(
        &self,
        channel: &dyn Channel,
        alert: &Alert,
        left: Duration,
    ) -> Result<Receipt, Error> {
        let unknown = |what: &str| {
            Err(Error::new(ErrorKind::Unknown, format!("channel `{}` {what}", channel.name())))
        };
        let sending = AssertUnwindSafe(async { channel.send(alert).await }).catch_unwind();
        tokio::select! {
            sent = sending => sent.unwrap_or_else(|_| unknown("panicked")),
            () = self.clock.sleep(left) => unknown("did not answer before the deadline"),
        }
    }
}
