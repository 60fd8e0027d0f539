//! Where long work says how far it is.

use std::fmt::Debug;

use serde::Serialize;

/// What is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Whatever the phase names: objects, rows, files.
    Items,
}

/// How far one phase of a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Update {
    /// The phase: `receiving objects`.
    pub phase: String,
    /// What is counted.
    pub unit: Unit,
    /// How much is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

impl Update {
    /// Progress in bytes.
    pub fn bytes(phase: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { phase: phase.into(), unit: Unit::Bytes, done, total }
    }

    /// Progress in items.
    pub fn items(phase: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { phase: phase.into(), unit: Unit::Items, done, total }
    }
}

/// Receives progress. It is called from the work itself, possibly thousands of times a second and
/// from several threads, so it returns at once and drops what it cannot take.
pub trait Progress: Debug + Send + Sync {
    /// Takes one update.
    fn update(&self, update: &Update);
}

/// Shows nothing: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn update(&self, _: &Update) {}
}

/// Keeps the latest update of each phase, for a status page or a test.
#[derive(Debug, Default)]
pub struct LatestProgress(std::sync::Mutex<Vec<Update>>);

impl LatestProgress {
    /// The latest update of each phase, in the order in which the phases began.
    pub fn snapshot(&self) -> Vec<Update> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Progress for LatestProgress {
    fn update(&self, update: &Update) {
        let mut phases = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = phases.iter_mut().find(|known| known.phase == update.phase) {
            known.clone_from(update);
        } else if phases.len() < 1024 {
            // A cap, so that phases named after files cannot fill the memory.
            phases.push(update.clone());
        }
    }
}
