//! Watching a new version for a while once it has the traffic.

use std::time::Duration;

use ops_core::Refusal;
use serde::{Deserialize, Serialize};

/// How a new version is watched once it has the traffic, before the commit.
///
/// *Rounds* ask: the public address, or, without one, the instances; the guards; and, of containers,
/// the engine for the load. One bad round is forgiven. [`raise`](Self::raise) bad ones in a row
/// bring the old version back, and so does a share of bad rounds that is too large; after a bad round
/// as many as [`clear`](Self::clear) must be good until the watch can end, for which it goes on for
/// as long again as it was to last.
///
/// *Windows* count what the public was answered, where [`TrafficSwitch::answered`] tells it, as the
/// proxy does: no service needs an endpoint for metrics. As soon as there were
/// [`requests`](Self::requests) of them, the window is judged and the next one begins. It is bad if
/// more than [`error_rate`](Self::error_rate) of them failed (a status of 500 or more, or no answer),
/// or more than [`slow`](Self::slow) took longer than [`latency`](Self::latency); one request is
/// forgiven. As many bad windows in a row as bad rounds bring the old version back, and so does the
/// sum of all windows. What the watch itself asks is not traffic. Without enough of it,
/// [`quiet`](Self::quiet) decides.
///
/// [`TrafficSwitch::answered`]: crate::TrafficSwitch::answered
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bake {
    /// How long it is watched. Default: 60 s.
    pub lasts: Duration,
    /// The pause between two rounds; the engine may take another second to measure the load.
    /// Default: 1 s.
    pub interval: Duration,
    /// How long an answer may take. Default: 500 ms.
    pub latency: Duration,
    /// So many bad rounds in a row are too many. Default: 3.
    pub raise: u32,
    /// So many good rounds in a row must follow a bad one. Default: 5.
    pub clear: u32,
    /// The share of bad rounds, and that of failed requests, which is too large. Default: 0.01; one
    /// is always forgiven.
    pub error_rate: f64,
    /// The share of slow requests that is too large. Default: 0.05; one is always forgiven.
    pub slow: f64,
    /// So many requests make a window. Default: 20.
    pub requests: u64,
    /// What it means that there were fewer requests than a window has. Default: [`Quiet::Pass`].
    pub quiet: Quiet,
    /// The share of the machine's CPUs that a container may use. Default: 0.8.
    pub cpu: f64,
    /// The share of its memory that a container may use. Default: 0.8.
    pub memory: f64,
}

/// What a watch without enough traffic means: it is inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quiet {
    /// The rounds suffice: they did ask. A warning and a note in the journal say so.
    #[default]
    Pass,
    /// The old version comes back.
    GoBack,
}

impl Default for Bake {
    fn default() -> Self {
        Self {
            lasts: Duration::from_mins(1),
            interval: Duration::from_secs(1),
            latency: Duration::from_millis(500),
            raise: 3,
            clear: 5,
            error_rate: 0.01,
            slow: 0.05,
            requests: 20,
            quiet: Quiet::Pass,
            cpu: 0.8,
            memory: 0.8,
        }
    }
}

impl Bake {
    /// Watches for this long.
    pub fn lasting(lasts: Duration) -> Self {
        Self { lasts, ..Self::default() }
    }

    /// The pause between two rounds.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long an answer may take.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// How many bad rounds in a row are too many, and how many good ones make up for a bad one.
    pub fn hysteresis(mut self, raise: u32, clear: u32) -> Self {
        self.raise = raise;
        self.clear = clear;
        self
    }

    /// The share of bad rounds, and that of failed requests, which is too large.
    pub fn error_rate(mut self, share: f64) -> Self {
        self.error_rate = share;
        self
    }

    /// The share of slow requests that is too large.
    pub fn slow(mut self, share: f64) -> Self {
        self.slow = share;
        self
    }

    /// How many requests make a window.
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }

    /// What it means that there was not enough traffic.
    pub fn quiet(mut self, quiet: Quiet) -> Self {
        self.quiet = quiet;
        self
    }

    /// Every reason why it cannot be used by operations of this length.
    pub(crate) fn check(&self, deadline: Duration) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if self.lasts >= deadline {
            refusals.push(Refusal::new(
                "the watch lasts longer than the whole operation may",
                "raise the deadline, or watch for less",
            ));
        }
        let shares = [self.error_rate, self.slow, self.cpu, self.memory];
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            refusals.push(Refusal::new(
                "a share of the watch is none",
                "give shares from 0 to 1: 0.01 is one of a hundred",
            ));
        }
        refusals
    }

    /// The shares of CPU and memory that a container may use.
    pub fn load(mut self, cpu: f64, memory: f64) -> Self {
        self.cpu = cpu;
        self.memory = memory;
        self
    }
}

/// What a watch says after a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Passed,
    Failed(String),
}

/// The rule of a watch, without a clock.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    bake: &'a Bake,
    bad_in_a_row: u32,
    good_in_a_row: u32,
    bad: u32,
    rounds: u32,
    last: String,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(bake: &'a Bake) -> Self {
        let last = String::new();
        // Nothing was bad yet: there is nothing to make up for.
        Self { bake, bad_in_a_row: 0, good_in_a_row: bake.clear, bad: 0, rounds: 0, last }
    }

    /// Takes a round in: what was bad in it, and how long the watch has lasted.
    pub(crate) fn take(&mut self, bad: Option<String>, elapsed: Duration) -> Verdict {
        self.rounds += 1;
        if let Some(bad) = bad {
            (self.bad_in_a_row, self.good_in_a_row) = (self.bad_in_a_row + 1, 0);
            self.bad += 1;
            self.last = bad;
        } else {
            self.bad_in_a_row = 0;
            self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        }
        let Self { bad, rounds, last, .. } = &*self;
        if self.bad_in_a_row >= self.bake.raise.max(1) {
            return Verdict::Failed(format!("{} bad rounds in a row: {last}", self.bad_in_a_row));
        }
        // Rounds may be slow: too few of them prove nothing, however long they took.
        if elapsed < self.bake.lasts || *rounds < self.bake.raise.max(self.bake.clear) {
            return Verdict::GoOn;
        }
        let share = f64::from(*bad) / f64::from(*rounds);
        if *bad > 1 && share > self.bake.error_rate {
            return Verdict::Failed(format!("{bad} of {rounds} rounds were bad: {last}"));
        }
        if self.good_in_a_row >= self.bake.clear {
            return Verdict::Passed;
        }
        if elapsed >= self.bake.lasts.saturating_mul(2) {
            return Verdict::Failed(format!("it did not become well again: {last}"));
        }
        Verdict::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round a second, `.` good and `x` bad; answers after how many of them, and what.
    #[track_caller]
    fn check(rounds: &str, expected: &str) {
        let bake = Bake::lasting(Duration::from_secs(10)).hysteresis(3, 2).error_rate(0.25);
        let mut watch = Watch::new(&bake);
        let mut verdict = Verdict::GoOn;
        let mut seen = 0;
        for round in rounds.chars() {
            seen += 1;
            let bad = (round == 'x').then(|| "slow".to_owned());
            verdict = watch.take(bad, Duration::from_secs(seen));
            if verdict != Verdict::GoOn {
                break;
            }
        }
        let said = match verdict {
            Verdict::GoOn => "goes on".to_owned(),
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed(why) => why,
        };
        assert_eq!(format!("{seen}: {said}"), expected, "{rounds}");
    }

    #[test]
    fn one_bad_round_is_forgiven_and_three_in_a_row_are_not() {
        check("..........", "10: passed");
        check(".........", "9: goes on");
        check("..x.......", "10: passed");
        check("..xxx", "5: 3 bad rounds in a row: slow");
        check("..xx.xx...", "10: 4 of 10 rounds were bad: slow");
        // It ends only when it is well again.
        check(".........x..", "12: passed");
        check(".........x.", "11: goes on");
        check(".........x.x.x.x.x.x.", "18: 5 of 18 rounds were bad: slow");
    }
}
