//! The time source: the machine's, or one that a test moves by hand.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

/// Tells the time and waits for it.
///
/// `now` may jump, as wall clocks do; `elapsed` never goes back, and durations and deadlines are
/// counted on it.
pub trait Clock: Debug + Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never going back.
    fn elapsed(&self) -> Duration;

    /// Waits. Dropping the future stops the wait and leaves nothing behind.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock; its waiting needs a tokio runtime with time enabled.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock.
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that moves only when told. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    wall: Arc<Mutex<Timestamp>>,
    elapsed: Arc<watch::Sender<Duration>>,
}

impl ManualClock {
    /// A clock that stands at this moment.
    pub fn new(now: Timestamp) -> Self {
        Self {
            wall: Arc::new(Mutex::new(now)),
            elapsed: Arc::new(watch::Sender::new(Duration::ZERO)),
        }
    }

    /// Lets time pass, on the wall clock and for everyone who waits.
    pub fn advance(&self, by: Duration) {
        let mut wall = self.wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let span = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
        *wall = wall.saturating_add(span).unwrap_or(Timestamp::MAX);
        self.elapsed.send_modify(|elapsed| *elapsed = elapsed.saturating_add(by));
    }

    /// Makes the wall clock jump, as after a suspend or a correction; waits are not affected.
    pub fn jump_to(&self, now: Timestamp) {
        *self.wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut elapsed = self.elapsed.subscribe();
        let until = self.elapsed().saturating_add(duration);
        Box::pin(async move {
            // The sender may be dropped with the clock: then no time passes any more, for ever.
            if elapsed.wait_for(|now| *now >= until).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_those_whose_time_has_come() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let short = tokio::spawn(clock.sleep(Duration::from_secs(1)));
        let long = tokio::spawn(clock.sleep(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(2));
        short.await.unwrap();
        assert!(!long.is_finished());
        clock.jump_to(Timestamp::MAX);
        assert!(!long.is_finished(), "a jump of the wall clock wakes nobody");
        clock.advance(Duration::from_secs(8));
        long.await.unwrap();
    }
}
