//! When a new instance is good enough: it gives right answers, several times in a row.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ops_core::probe::{AllOf, Probe, Streak, observe};
use ops_core::{Refusal, StepContext, StepError};

use crate::error::{Error, ErrorKind};

/// So much longer than its probes may take is a set of them waited for: it says which was late.
const SLACK: Duration = Duration::from_millis(100);

/// When a new instance is good enough to take traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gate {
    /// How many answers in a row must be right. Default: 3.
    pub consecutive: u32,
    /// The pause between two questions. Default: 100 ms.
    pub interval: Duration,
    /// How long one answer may take. Default: 5 s.
    pub timeout: Duration,
    /// How long the whole may take. Default: 60 s.
    pub deadline: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            consecutive: 3,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(5),
            deadline: Duration::from_mins(1),
        }
    }
}

impl Gate {
    /// How many answers in a row must be right.
    pub fn consecutive(mut self, answers: u32) -> Self {
        self.consecutive = answers;
        self
    }

    /// The pause between two questions.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long one answer may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the whole may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Whether what is asked still runs: `Err` says how it ended.
pub(crate) type Alive<'a> =
    dyn Fn() -> BoxFuture<'a, Result<Result<(), String>, StepError>> + Sync + 'a;

impl Gate {
    /// Asks until `needed` answers in a row are right. The inner error says why they were not.
    pub(crate) async fn be_sure(
        &self,
        probe: &dyn Probe,
        needed: u32,
        alive: &Alive<'_>,
        cx: &StepContext,
    ) -> Result<Result<(), String>, StepError> {
        let mut streak = Streak::default();
        let mut last = "too few right answers".to_owned();
        let asking = async {
            loop {
                if let Err(ended) = alive().await? {
                    return Ok(Err(format!("{ended}; {last}")));
                }
                let seen = observe(probe, self.timeout.saturating_add(SLACK)).await;
                if streak.take(&seen.health, needed) {
                    // What answered may be somebody else, in whose way the instance could not be.
                    return alive().await;
                }
                // Right answers between wrong ones do not hide what is wrong.
                if !seen.health.is_healthy() {
                    last = plain(&format!("{} is {}", seen.probe, seen.health));
                }
                tokio::time::sleep(self.interval).await;
            }
        };
        let outcome: Result<Result<Result<(), String>, StepError>, _> =
            cx.until_cancelled(tokio::time::timeout(self.deadline, asking)).await?;
        outcome.unwrap_or_else(|_| Ok(Err(format!("{last} (after {:?})", self.deadline))))
    }
}

/// What a service said of itself goes into journals and terminals.
pub(crate) fn plain(text: &str) -> String {
    const MOST: usize = 500;
    text.chars().filter(|c| !c.is_control()).take(MOST).collect()
}

/// The names of these guards.
pub(crate) fn guard_names(guards: &[Arc<dyn Probe>]) -> Vec<String> {
    guards.iter().map(|guard| guard.name().to_owned()).collect()
}

/// The guards of these names; which are missing, if some are.
pub(crate) fn guards(
    known: &[Arc<dyn Probe>],
    names: &[String],
) -> Result<Vec<Arc<dyn Probe>>, Refusal> {
    let find = |name: &String| known.iter().find(|guard| guard.name() == name);
    let missing: Vec<_> =
        names.iter().filter(|name| find(name).is_none()).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(names.iter().filter_map(find).cloned().collect());
    }
    let known = guard_names(known);
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Refusal::new(
        format!("the gate lacks the guards {} (known: {known})", missing.join(", ")),
        "add them where the target is set up, or plan again without them",
    ))
}

/// Asks the guards of these names, too.
pub(crate) fn guarded(
    mut all: AllOf,
    known: &[Arc<dyn Probe>],
    names: &[String],
) -> Result<AllOf, Error> {
    let guards = guards(known, names).map_err(|missing| {
        Error::new(ErrorKind::InvalidConfig, "the gate cannot be asked").refusals([missing])
    })?;
    for guard in guards {
        all = all.shared(guard);
    }
    Ok(all)
}

/// Guards without a name of their own, by which journals know them.
pub(crate) fn nameless(guards: &[Arc<dyn Probe>]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (n, guard) in guards.iter().enumerate() {
        let name = guard.name();
        if name.is_empty() || guards[..n].iter().any(|other| other.name() == name) {
            refusals.push(Refusal::new(
                format!("the guard `{name}` has no name of its own"),
                "give each guard its own name, by which journals know it",
            ));
        }
    }
    refusals
}
