//! What each instance has answered, in numbers.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// The upper ends of the classes of latency, in milliseconds. What takes longer than the last is in
/// a class of its own.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// What an instance has answered since the proxy started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tally {
    /// How many requests were answered, in whatever way.
    pub requests: u64,
    /// How many of them by a status of 400 to 499.
    pub client_errors: u64,
    /// How many of them by a status of 500 or more, made by the instance.
    pub server_errors: u64,
    /// How many of them by the proxy itself, since the instance did not answer, or too late.
    pub unanswered: u64,
    /// How many there were in each class of latency: at most 1, 2, 5, 10, 20, 50, 100, 200, 500,
    /// 1000, 2000 and 5000 ms, and more. Latency is counted from the request's head to the answer's.
    pub latency: [u64; 13],
}

impl Tally {
    /// The part of requests that failed: answered by the instance with 500 or more, or not at all.
    /// `None` without requests.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of counts needs no more than 52 bits")]
    pub fn error_rate(&self) -> Option<f64> {
        let failed = self.server_errors + self.unanswered;
        (self.requests > 0).then(|| failed as f64 / self.requests as f64)
    }

    /// The latency that this part of requests did not exceed, such as 0.99: the upper end of its
    /// class, and [`Duration::MAX`] beyond 5 s. `None` without requests.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank of counts needs no more than 52 bits"
    )]
    pub fn latency(&self, part: f64) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        let rank = (total as f64 * part.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let class = self.latency.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(BOUNDS_MS.get(class).map_or(Duration::MAX, |ms| Duration::from_millis(*ms)))
    }

    /// How many requests took longer than this for certain: those of the classes above it.
    pub fn slower_than(&self, limit: Duration) -> u64 {
        let first = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < limit);
        self.latency[first + 1..].iter().sum()
    }

    /// What came since an earlier look at the same instance. A proxy that was started again begins
    /// from nothing, and so does the answer.
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.requests > self.requests {
            return self.clone();
        }
        let mut latency = self.latency;
        for (now, then) in latency.iter_mut().zip(earlier.latency) {
            *now = now.saturating_sub(then);
        }
        Self {
            requests: self.requests - earlier.requests,
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
            unanswered: self.unanswered.saturating_sub(earlier.unanswered),
            latency,
        }
    }

    /// Counts one answer; `None` is one that the proxy had to make itself.
    pub(crate) fn count(&mut self, status: Option<StatusCode>, took: Duration) {
        self.requests += 1;
        match status {
            None => self.unanswered += 1,
            Some(status) if status.is_server_error() => self.server_errors += 1,
            Some(status) if status.is_client_error() => self.client_errors += 1,
            Some(_) => {}
        }
        let ms = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < took);
        self.latency[ms] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_their_differences() {
        let mut tally = Tally::default();
        assert_eq!((tally.error_rate(), tally.latency(0.5)), (None, None));
        let ms = Duration::from_millis;
        for (status, took) in [(200, 0), (200, 1), (404, 2), (500, 30), (503, 6000)] {
            tally.count(Some(StatusCode::from_u16(status).unwrap()), ms(took));
        }
        let before = tally.clone();
        tally.count(None, ms(150));
        assert_eq!((tally.requests, tally.client_errors, tally.server_errors), (6, 1, 2));
        assert_eq!(tally.error_rate(), Some(0.5));
        assert_eq!(tally.latency[0], 2, "a class has its upper end");
        assert_eq!(tally.latency(0.5), Some(ms(2)));
        assert_eq!(tally.latency(0.0), Some(ms(1)));
        assert_eq!(tally.latency(0.8), Some(ms(200)));
        assert_eq!(tally.latency(1.0), Some(Duration::MAX));
        let slower =
            [0, 1, 29, 50, 149, 200, 201, 4999, 5000, 5001].map(|n| tally.slower_than(ms(n)));
        assert_eq!(slower, [4, 4, 2, 2, 1, 1, 1, 1, 1, 0], "only for certain");
        let since = tally.since(&before);
        assert_eq!((since.requests, since.unanswered, since.latency(1.0)), (1, 1, Some(ms(200))));
        assert_eq!(before.since(&tally), before, "the proxy began anew");
    }
}
