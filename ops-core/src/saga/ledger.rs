//! The journal and the state that it describes, moved together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::error::StepError;
use crate::journal::{Action, AppendFailure, JournalFile, Record, State};
use crate::resource::ResourceId;

/// The journal of a running operation and the state that it describes.
///
/// The state moves when a record is written. If a record of the way back cannot be written, the
/// journal falls silent: the state goes on in memory, and what is on disk still leads a recovery
/// to the same end, since undoing twice is harmless.
#[derive(Debug)]
pub(crate) struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    journal: JournalFile,
    state: State,
    silent: bool,
}

/// What is to happen when a record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    /// The record never happened.
    Stay,
    /// The journal falls silent and the state goes on without it.
    GoOnFromMemory,
}

impl Ledger {
    pub fn new(journal: JournalFile, state: State) -> Self {
        Self(Arc::new(Mutex::new(Inner { journal, state, silent: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Writes a record; if that fails, it never happened.
    pub async fn record(&self, record: Record) -> Result<(), AppendFailure> {
        self.write(record, OnFailure::Stay).await
    }

    /// Writes a record of the way back; if that fails, the journal falls silent.
    pub async fn record_or_fall_silent(&self, record: Record) -> Result<(), AppendFailure> {
        self.write(record, OnFailure::GoOnFromMemory).await
    }

    async fn write(&self, record: Record, on_failure: OnFailure) -> Result<(), AppendFailure> {
        let inner = Arc::clone(&self.0);
        let write = move || lock(&inner).write(&record, on_failure);
        let panicked =
            |join| AppendFailure { proven_absent: false, source: std::io::Error::other(join) };
        tokio::task::spawn_blocking(write).await.map_err(panicked)?
    }

    pub async fn note(
        &self,
        step: usize,
        resource: ResourceId,
        key: String,
        value: Value,
    ) -> Result<(), StepError> {
        self.record(Record::Noted { step, resource, key, value }).await.map_err(|failure| {
            StepError::permanent(format!("the journal cannot be written: {}", failure.source))
        })
    }

    pub fn noted(&self, resource: &ResourceId, key: &str) -> Option<Value> {
        self.lock().state.notes().get(resource)?.get(key).cloned()
    }

    pub fn next_action(&self) -> Action {
        self.lock().state.next_action()
    }

    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Whether the journal on disk says less than the state in memory.
    pub fn is_silent(&self) -> bool {
        self.lock().silent
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn write(&mut self, record: &Record, on_failure: OnFailure) -> Result<(), AppendFailure> {
        let mut next = self.state.clone();
        next.advance(record).map_err(|illegal| AppendFailure {
            proven_absent: true,
            source: std::io::Error::other(illegal),
        })?;
        let written = if self.silent { Ok(()) } else { self.journal.append(record) };
        match &written {
            Ok(()) => self.state = next,
            Err(_) if on_failure == OnFailure::GoOnFromMemory => {
                self.silent = true;
                self.state = next;
            }
            Err(_) => {}
        }
        written
    }
}
