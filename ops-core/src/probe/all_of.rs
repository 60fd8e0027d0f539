//! Several probes as one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream;
use tokio::time::Instant;

use super::{Health, Observation, Probe, observe};

/// How many probes are asked at the same time.
const AT_ONCE: usize = 32;

/// Several probes as one, asked in parallel under one deadline: unhealthy if one is, else unknown
/// if one is, else healthy. Without any probe it is unknown: no data never passes.
#[derive(Debug, Clone)]
pub struct AllOf {
    name: String,
    deadline: Duration,
    probes: Vec<Arc<dyn Probe>>,
}

impl AllOf {
    /// No probes yet, to be answered within the deadline.
    pub fn new(name: impl Into<String>, deadline: Duration) -> Self {
        Self { name: name.into(), deadline, probes: Vec::new() }
    }

    /// Adds a probe.
    pub fn probe(mut self, probe: impl Probe + 'static) -> Self {
        self.probes.push(Arc::new(probe));
        self
    }

    /// Adds a probe that is shared.
    pub fn shared(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes.push(probe);
        self
    }

    /// What each probe answers, in the order in which they were added. At most 32 are asked at the
    /// same time; those that wait have that much less time.
    pub async fn observe_each(&self) -> Vec<Observation> {
        let until = Instant::now() + self.deadline;
        let asked: Vec<BoxFuture<'static, _>> = self
            .probes
            .iter()
            .cloned()
            .map(|probe| async move { observe(&*probe, left(until)).await }.boxed())
            .collect();
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }
}

impl Probe for AllOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            let seen = self.observe_each().await;
            let unhealthy = those(&seen, |health| matches!(health, Health::Unhealthy { .. }));
            let unknown = those(&seen, |health| matches!(health, Health::Unknown { .. }));
            if !unhealthy.is_empty() {
                return Health::unhealthy(unhealthy.join("; "));
            }
            if seen.is_empty() {
                return Health::unknown("there is no probe to ask");
            }
            if unknown.is_empty() { Health::Healthy } else { Health::unknown(unknown.join("; ")) }
        }
        .boxed()
    }
}

fn those(seen: &[Observation], wanted: impl Fn(&Health) -> bool) -> Vec<String> {
    let those = seen.iter().filter(|one| wanted(&one.health));
    those.map(|one| format!("{} is {}", one.probe, one.health)).collect()
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
