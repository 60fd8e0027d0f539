//! Several probes as one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream;

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
        let until = tokio::time::Instant::now() + self.deadline;
        let ask = |probe: Arc<dyn Probe>| async move {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            observe(&*probe, left).await
        };
        stream::iter(self.probes.iter().cloned()).map(ask).buffered(AT_ONCE).collect().await
    }
}

impl Probe for AllOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            let seen = self.observe_each().await;
            let list = |wanted: fn(&Health) -> bool| {
                let those = seen.iter().filter(|one| wanted(&one.health));
                those.map(|one| format!("{} is {}", one.probe, one.health)).collect::<Vec<_>>()
            };
            let unhealthy = list(|health| matches!(health, Health::Unhealthy { .. }));
            let unknown = list(|health| matches!(health, Health::Unknown { .. }));
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
