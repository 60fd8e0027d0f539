//! How many bytes a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// What may go at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// A limit that all its clones share. Who takes more than there is goes at once and is waited for by
/// who comes next, so that no size is too large for it.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    bytes_a_second: u64,
    /// When what was taken so far has been paid for.
    free: Arc<Mutex<Option<Instant>>>,
}

impl Throttle {
    pub fn new(bytes_a_second: u64) -> Self {
        Self { bytes_a_second: bytes_a_second.max(1), free: Arc::default() }
    }

    /// Takes so many bytes; answers when they may go.
    fn take(&self, bytes: u64, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_a_second as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = free.map_or(earliest, |free| free.max(earliest));
        *free = Some(begins + cost);
        begins
    }

    /// Waits until so many bytes may go.
    ///
    /// # Errors
    /// If the token is cancelled meanwhile.
    pub async fn turn(&self, bytes: u64, cancel: &CancellationToken) -> Result<(), Error> {
        let begins = self.take(bytes, Instant::now());
        let waited = cancel.run_until_cancelled(tokio::time::sleep_until(begins)).await;
        waited.ok_or_else(Error::cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_get_no_more_than_one_after_the_other() {
        let begun = Instant::now();
        let milliseconds = |n| begun + Duration::from_millis(n);
        let throttle = Throttle::new(1000);
        for n in 0..20 {
            // Half a second each; a quarter was free.
            let at = throttle.clone().take(500, begun) + BURST;
            assert_eq!(at, milliseconds(n * 500));
        }
        // A pause gives a burst and not more.
        let later = milliseconds(100_000);
        for n in 0..3 {
            assert_eq!(throttle.take(500, later) + BURST, later + Duration::from_millis(n * 500));
        }
    }

    #[tokio::test]
    async fn a_turn_that_is_hours_away_can_be_given_up() {
        let cancel = CancellationToken::new();
        let throttle = Throttle::new(1);
        throttle.turn(1 << 20, &cancel).await.unwrap();
        let mut waits = std::pin::pin!(throttle.turn(1, &cancel));
        assert!(futures::poll!(&mut waits).is_pending());
        cancel.cancel();
        assert!(waits.await.is_err());
    }
}
