//! Alerts that stay in memory, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};

use super::{Channel, Limits, Receipt};
use crate::alert::Alert;
use crate::error::{Error, ErrorKind};

/// More alerts than this are not kept.
const CAPACITY: usize = 10_000;

/// Keeps alerts in memory, and fails when told to. Clones share the alerts.
#[derive(Debug, Clone)]
pub struct MemoryChannel {
    name: String,
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    alerts: Vec<Alert>,
    failures: VecDeque<ErrorKind>,
    sends: usize,
}

impl MemoryChannel {
    /// An empty channel. Messages are at most 1 MiB, and 10,000 alerts are kept at most.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), limits: Limits::new(1024 * 1024), state: Arc::default() }
    }

    /// Cuts messages to so many bytes.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits = Limits::new(bytes);
        self
    }

    /// Fails the next sends so, one after the other.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = ErrorKind>) {
        self.state().failures.extend(failures);
    }

    /// What arrived, in order.
    pub fn alerts(&self) -> Vec<Alert> {
        self.state().alerts.clone()
    }

    /// How often it was tried, failures counted.
    pub fn sends(&self) -> usize {
        self.state().sends
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, alert: &Alert) -> Result<Receipt, Error> {
        let mut state = self.state();
        state.sends += 1;
        if let Some(kind) = state.failures.pop_front() {
            return Err(Error::new(kind, format!("channel `{}` was told to fail", self.name)));
        }
        if state.alerts.len() >= CAPACITY {
            let kind = ErrorKind::Unavailable { retry_after: None };
            return Err(Error::new(kind, format!("channel `{}` is full", self.name)));
        }
        let cut = alert.to_json_within(self.limits.max_bytes);
        let cut = cut.and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(|| {
            Error::new(ErrorKind::Refused, "the alert is too large for the channel, even when cut")
                .with("channel", &self.name)
                .with("max_bytes", self.limits.max_bytes)
        })?;
        state.alerts.push(cut);
        Ok(Receipt::new(&self.name, "kept"))
    }
}

impl Channel for MemoryChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
        async { self.take(alert) }.boxed()
    }
}
