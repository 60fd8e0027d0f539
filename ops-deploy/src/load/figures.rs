//! What was asked, and how it was answered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// So many failures are told word for word.
const TOLD: usize = 20;
/// Latencies are counted in steps of a sixteenth of their power of two.
const STEPS: usize = 16;

/// What was asked, and how it was answered.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Figures {
    /// How many requests were asked, and how many WebSockets opened.
    pub asked: u64,
    /// How many of these were not answered well: no answer, half of one, or one that is not 200.
    pub failed: u64,
    /// How many were asked by each kind of client.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// How often each version answered, by its header `x-version`.
    pub versions: BTreeMap<String, u64>,
    /// What the first failures were, and when, counted from the begin.
    pub failures: Vec<(Duration, String)>,
    /// How long it was asked.
    pub lasted: Duration,
    latencies: Latencies,
}

impl Figures {
    /// How many requests were asked in a second.
    pub fn rate(&self) -> f64 {
        self.asked as f64 / self.lasted.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// How long the quick requests took of which so many of a hundred took no longer; within 7 %.
    pub fn latency(&self, percent: f64) -> Duration {
        self.latencies.at(percent)
    }

    /// The quick request that took longest.
    pub fn slowest(&self) -> Duration {
        self.latencies.most
    }

    pub(super) fn answered(&mut self, kind: &'static str, version: Option<String>) {
        self.asked += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        if let Some(version) = version {
            // A service with a version a request would fill the memory.
            if self.versions.len() < TOLD || self.versions.contains_key(&version) {
                *self.versions.entry(version).or_default() += 1;
            }
        }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.latencies.add(time);
    }

    pub(super) fn missed(&mut self, kind: &'static str, at: Duration, why: &str) {
        self.asked += 1;
        self.failed += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        if self.failures.len() < TOLD {
            self.failures.push((at, format!("{kind}: {why}")));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> =
            self.by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(
            f,
            "{} requests ({}) in {:.1?}, {:.0} a second: {} failed; p50 {:.1?}, p99 {:.1?}, most {:.1?}",
            self.asked,
            kinds.join(", "),
            self.lasted,
            self.rate(),
            self.failed,
            self.latency(50.0),
            self.latency(99.0),
            self.slowest(),
        )?;
        for (at, why) in &self.failures {
            write!(f, "\n  after {at:.3?}: {why}")?;
        }
        Ok(())
    }
}

/// How often which latency was seen, in microseconds.
#[derive(Debug, Clone, Default)]
struct Latencies {
    counts: BTreeMap<usize, u64>,
    most: Duration,
}

impl Latencies {
    fn add(&mut self, time: Duration) {
        *self.counts.entry(Self::bucket(time)).or_default() += 1;
        self.most = self.most.max(time);
    }

    fn bucket(time: Duration) -> usize {
        let micros = usize::try_from(time.as_micros()).unwrap_or(usize::MAX);
        if micros < STEPS {
            return micros;
        }
        let power = micros.ilog2() - STEPS.ilog2();
        power as usize * STEPS + (micros >> power)
    }

    /// The greatest time of a bucket.
    fn end(bucket: usize) -> Duration {
        let micros = if bucket < 2 * STEPS {
            bucket
        } else {
            let power = bucket / STEPS - 1;
            ((bucket - power * STEPS + 1) << power) - 1
        };
        Duration::from_micros(micros as u64)
    }

    fn at(&self, percent: f64) -> Duration {
        let all: u64 = self.counts.values().sum();
        let mut left = all as f64 * percent / 100.0;
        for (bucket, count) in &self.counts {
            left -= *count as f64;
            if left <= 0.0 {
                return Self::end(*bucket).min(self.most);
            }
        }
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_within_their_steps() {
        for micros in (0..5_000_u64).chain([1 << 20, (1 << 20) + 12_345, 30_000_000]) {
            let end = Latencies::end(Latencies::bucket(Duration::from_micros(micros)));
            let end = u64::try_from(end.as_micros()).unwrap();
            assert!(end >= micros && end <= micros + micros / 15, "{micros} ends in {end}");
        }
        let mut latencies = Latencies::default();
        for ms in 1..=100 {
            latencies.add(Duration::from_millis(ms));
        }
        for (percent, least, most) in [(50.0, 50, 54), (99.0, 99, 100), (100.0, 100, 100)] {
            let found = latencies.at(percent).as_millis();
            assert!(found >= least && found <= most, "{percent}: {found}");
        }
    }
}
