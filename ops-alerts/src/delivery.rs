//! Trying again, within bounds.

use std::hash::{BuildHasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt as _;
use ops_core::{Class, Classify as _, Clock, SystemClock};

use crate::alert::Alert;
use crate::channel::{Channel, Receipt};
use crate::error::{Error, ErrorKind};

/// How often and how long one channel is tried with one alert.
#[derive(Debug, Clone)]
pub struct Delivery {
    attempts: u32,
    first: Duration,
    max_delay: Duration,
    deadline: Duration,
    clock: Arc<dyn Clock>,
}

impl Default for Delivery {
    /// 5 attempts within 4 seconds, 200 ms after the first failure, then twice as long each time.
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(200),
            max_delay: Duration::from_secs(30),
            deadline: Duration::from_secs(4),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl Delivery {
    /// At most so many attempts, 1 or more. Default 5.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait after the first failure. Default 200 ms.
    pub fn first(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// How long to wait at most, unless the receiver asks for more. Default 30 seconds.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
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
        let begun = self.clock.elapsed();
        let jitter = (RandomState::new().hash_one(alert.id.as_str()) % 1000) as f64 / 1000.0;
        let mut attempt = 1;
        loop {
            let used = self.clock.elapsed().saturating_sub(begun);
            let left = self.deadline.saturating_sub(used);
            let error = match self.once(channel, alert, left).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            let used = self.clock.elapsed().saturating_sub(begun);
            match self.next_delay(&error, attempt, used, jitter) {
                Some(delay) => self.clock.sleep(delay).await,
                None => return Err(error.with("attempts", attempt)),
            }
            attempt += 1;
        }
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

    /// How long to wait before the next attempt, or nothing if there is none. Half of the wait is
    /// by chance, so that many senders do not come back at once.
    fn next_delay(
        &self,
        error: &Error,
        attempt: u32,
        used: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        if attempt >= self.attempts || error.class() == Class::Permanent {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let delay = doubled.min(self.max_delay).mul_f64(0.5 + jitter / 2.0);
        // A wait that ends after the deadline is not begun.
        let delay = delay.max(error.retry_after().unwrap_or_default());
        (used.saturating_add(delay) < self.deadline).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_end() {
        let delivery = Delivery::default()
            .attempts(6)
            .first(Duration::from_secs(1))
            .max_delay(Duration::from_secs(5))
            .deadline(Duration::from_secs(100));
        let temporary = |retry_after| ErrorKind::Unavailable { retry_after };
        let seconds = Duration::from_secs;
        for (kind, attempt, used, expected) in [
            (temporary(None), 1, 0, Some(1)),
            (temporary(None), 2, 0, Some(2)),
            (temporary(None), 3, 0, Some(4)),
            (temporary(None), 4, 0, Some(5)),
            (temporary(None), 6, 0, None),
            (temporary(Some(seconds(20))), 1, 0, Some(20)),
            (temporary(Some(seconds(20))), 1, 80, None),
            (temporary(Some(Duration::ZERO)), 1, 0, Some(1)),
            (ErrorKind::Unknown, 1, 0, Some(1)),
            (ErrorKind::Unknown, 1, 99, None),
            (ErrorKind::Refused, 1, 0, None),
        ] {
            let error = Error::new(kind, "x");
            let got = delivery.next_delay(&error, attempt, seconds(used), 1.0);
            assert_eq!(got, expected.map(seconds), "{kind:?} {attempt} {used}");
        }
    }
}
