//! Trying again: backoff with jitter, and a budget.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::time::Duration;
//! use ops_core::retry::Retry;
//!
//! let retry = Retry::new().attempts(3).first_delay(Duration::from_millis(1));
//! let mut calls = 0;
//! let answer = retry
//!     .run(&ops_core::SystemClock::new(), || {
//!         calls += 1;
//!         let busy = std::io::Error::from(std::io::ErrorKind::WouldBlock);
//!         let answer = if calls < 3 { Err(busy) } else { Ok(calls) };
//!         async move { answer }
//!     })
//!     .await;
//! assert_eq!(answer?, 3); // a `std::io::Error` classifies itself
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::clock::Clock;
use crate::error::{Class, Classify};

/// How often, and with which delays, a call is tried again.
///
/// Only [temporary](Class::Temporary) failures are; those whose outcome is unknown only where the
/// call is idempotent and says so with [`also_unknown`](Self::also_unknown).
#[derive(Debug, Clone)]
#[must_use = "call `run`"]
pub struct Retry {
    attempts: usize,
    first: Duration,
    longest: Duration,
    budget: Duration,
    jitter: bool,
    unknown: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl Retry {
    /// Five attempts, 100 ms doubled up to 10 s, with jitter, within a minute.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            budget: Duration::from_mins(1),
            jitter: true,
            unknown: false,
        }
    }

    /// How often the call is made at most, the first time counted. Default: 5; 0 counts as 1.
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The first delay; each one after it is twice as long. Default: 100 ms.
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// The longest delay, before jitter. Default: 10 s.
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest = delay;
        self
    }

    /// No new attempt starts later than this after the first. Default: 1 min.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Delays exactly as computed. With jitter (the default), up to as much again is added, so
    /// that many callers do not come back at once.
    pub fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// Tries again also when the outcome is unknown: for idempotent calls.
    pub fn also_unknown(mut self) -> Self {
        self.unknown = true;
        self
    }

    /// Makes the call until it succeeds, fails for good, or the attempts or the budget are used up.
    ///
    /// # Errors
    /// The last error of the call.
    ///
    /// # Cancellation
    /// Dropping the future drops the call that is being made.
    pub async fn run<T, E, F, C>(&self, clock: &dyn Clock, call: C) -> Result<T, E>
    where
        E: Classify,
        F: Future<Output = Result<T, E>>,
        C: FnMut() -> F,
    {
        self.run_hinted(clock, |_| None, call).await
    }

    /// Like [`run`](Self::run), for errors that say when to come back (`Retry-After`): `hint`
    /// reads the least delay from an error.
    ///
    /// # Errors
    /// The last error of the call; also when the hint goes beyond the budget.
    pub async fn run_hinted<T, E, F, C>(
        &self,
        clock: &dyn Clock,
        hint: impl Fn(&E) -> Option<Duration>,
        mut call: C,
    ) -> Result<T, E>
    where
        E: Classify,
        F: Future<Output = Result<T, E>>,
        C: FnMut() -> F,
    {
        let mut backoff = ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_factor(2.0)
            .with_max_times(self.attempts - 1);
        if self.jitter {
            backoff = backoff.with_jitter();
        }
        let mut delays = backoff.build();
        let until = clock.elapsed().saturating_add(self.budget);
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match error.class() {
                Class::Temporary => true,
                Class::OutcomeUnknown => self.unknown,
                Class::Permanent => false,
            };
            let Some(delay) = delays.next().filter(|_| again) else { return Err(error) };
            let delay = delay.max(hint(&error).unwrap_or_default());
            if clock.elapsed().saturating_add(delay) > until {
                return Err(error);
            }
            clock.sleep(delay).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use std::cell::Cell;

    #[derive(Debug, PartialEq)]
    struct Failed(Class);

    impl Classify for Failed {
        fn class(&self) -> Class {
            self.0
        }
    }

    /// Tokio's paused time moves on by itself while everyone sleeps.
    async fn attempts(retry: Retry, class: Class, hint: Option<Duration>) -> (u32, Duration) {
        let calls = Cell::new(0);
        let started = tokio::time::Instant::now();
        let failed = retry
            .run_hinted(
                &PausedClock(started),
                |_| hint,
                || {
                    calls.set(calls.get() + 1);
                    async { Err::<(), _>(Failed(class)) }
                },
            )
            .await;
        assert_eq!(failed, Err(Failed(class)));
        (calls.get(), started.elapsed())
    }

    #[derive(Debug)]
    struct PausedClock(tokio::time::Instant);

    impl Clock for PausedClock {
        fn now(&self) -> jiff::Timestamp {
            SystemClock::new().now()
        }
        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
        fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep(duration))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_again_and_how_long() {
        let second = Duration::from_secs(1);
        let exact = Retry::new().without_jitter().first_delay(second);
        for (retry, class, hint, expected) in [
            (exact.clone(), Class::Permanent, None, (1, 0)),
            (exact.clone(), Class::OutcomeUnknown, None, (1, 0)),
            (exact.clone().also_unknown(), Class::OutcomeUnknown, None, (5, 1 + 2 + 4 + 8)),
            (exact.clone(), Class::Temporary, None, (5, 1 + 2 + 4 + 8)),
            (exact.clone().attempts(0), Class::Temporary, None, (1, 0)),
            (exact.clone().longest_delay(2 * second), Class::Temporary, None, (5, 1 + 2 + 2 + 2)),
            (exact.clone().budget(4 * second), Class::Temporary, None, (3, 1 + 2)),
            (exact.clone().attempts(3), Class::Temporary, Some(5 * second), (3, 5 + 5)),
            (exact, Class::Temporary, Some(Duration::from_hours(1)), (1, 0)),
        ] {
            let (calls, took) = attempts(retry.clone(), class, hint).await;
            assert_eq!((calls, took.as_secs()), expected, "{retry:?} {class:?} {hint:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_adds_up_to_as_much_again() {
        let retry = Retry::new().attempts(2).first_delay(Duration::from_secs(1));
        let (_, took) = attempts(retry, Class::Temporary, None).await;
        assert!((1.0..=2.01).contains(&took.as_secs_f64()), "{took:?}");
    }
}
