//! A gate: waits until a probe is healthy several times in a row.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Health, Observation, Probe, observe};
use crate::clock::Clock;

/// What a gate asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// How many healthy answers in a row. Default: 3; 0 counts as 1.
    pub consecutive: u32,
    /// The time between an answer and the next question. Default: 500 ms.
    pub interval: Duration,
    /// How long one answer may take. Default: 5 s.
    pub answer_within: Duration,
    /// How long all of it may take. Default: 60 s.
    pub deadline: Duration,
}

impl Default for Requirement {
    fn default() -> Self {
        Self {
            consecutive: 3,
            interval: Duration::from_millis(500),
            answer_within: Duration::from_secs(5),
            deadline: Duration::from_mins(1),
        }
    }
}

impl Requirement {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for this many healthy answers in a row.
    pub fn consecutive(mut self, consecutive: u32) -> Self {
        self.consecutive = consecutive;
        self
    }

    /// Waits this long between an answer and the next question.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Bounds one answer.
    pub fn answer_within(mut self, bound: Duration) -> Self {
        self.answer_within = bound;
        self
    }

    /// Bounds all of it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Counts healthy answers in a row: the rule of the gate, without a clock. Only healthy counts;
/// unhealthy and unknown begin anew, for no data never passes.
#[derive(Debug, Clone, Default)]
pub struct Streak(u32);

impl Streak {
    /// Takes an answer; true once `needed` in a row were healthy.
    pub fn take(&mut self, health: &Health, needed: u32) -> bool {
        self.0 = if health.is_healthy() { self.0.saturating_add(1) } else { 0 };
        self.0 >= needed.max(1)
    }
}

/// Why a gate did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateFailure {
    /// Whether it was cancelled; else its deadline passed.
    pub cancelled: bool,
    /// The last answer, if there was one.
    pub last: Option<Observation>,
}

impl fmt::Display for GateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.cancelled { "was cancelled" } else { "did not open in time" };
        write!(f, "the gate {why}")?;
        match &self.last {
            Some(last) => write!(f, "; last, {last}"),
            None => f.write_str("; there was no answer"),
        }
    }
}

impl std::error::Error for GateFailure {}

/// Asks until the requirement is met.
///
/// # Errors
/// With the last answer, when the deadline passes or the token is cancelled.
///
/// # Cancellation
/// Dropping the future leaves nothing behind.
pub async fn await_healthy(
    probe: &dyn Probe,
    requirement: &Requirement,
    clock: &dyn Clock,
    cancel: &CancellationToken,
) -> Result<Observation, GateFailure> {
    let until = clock.elapsed().saturating_add(requirement.deadline);
    let mut streak = Streak::default();
    let mut last = None;
    loop {
        let left = until.saturating_sub(clock.elapsed());
        let answer = observe(probe, requirement.answer_within.min(left));
        let Some(seen) = cancel.run_until_cancelled(answer).await else {
            return Err(GateFailure { cancelled: true, last });
        };
        if streak.take(&seen.health, requirement.consecutive) {
            return Ok(seen);
        }
        last = Some(seen);
        if clock.elapsed().saturating_add(requirement.interval) >= until {
            return Err(GateFailure { cancelled: false, last });
        }
        if cancel.run_until_cancelled(clock.sleep(requirement.interval)).await.is_none() {
            return Err(GateFailure { cancelled: true, last });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_healthy_answers_in_a_row_count() {
        let (good, bad, none) = (Health::Healthy, Health::unhealthy("x"), Health::unknown("x"));
        for (answers, opens) in [
            (vec![&good, &good, &good], true),
            (vec![&good, &good], false),
            (vec![&good, &good, &bad, &good], false),
            (vec![&good, &good, &none, &good], false),
            (vec![&bad, &good, &good, &good], true),
            (vec![&none, &none, &none], false),
        ] {
            let mut streak = Streak::default();
            let opened = answers.iter().any(|health| streak.take(health, 3));
            assert_eq!(opened, opens, "{answers:?}");
        }
    }
}
