//! What a step sees of the operation it is part of.

use std::future::Future;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::error::{Class, StepError};
use crate::operation_id::OperationId;
use crate::resource::ResourceId;
use crate::saga::ledger::Ledger;

/// What a step sees of the operation it is part of.
#[derive(Debug, Clone)]
pub struct StepContext {
    pub(crate) cx: Context,
    pub(crate) id: OperationId,
    pub(crate) resource: ResourceId,
    pub(crate) index: usize,
    pub(crate) cancel: CancellationToken,
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) blocking: TaskTracker,
}

impl StepContext {
    /// The operation's id; what a step creates derives its name from it.
    pub fn operation(&self) -> OperationId {
        self.id
    }

    /// The surroundings: environment, clock, progress, redactor.
    pub fn context(&self) -> &Context {
        &self.cx
    }

    /// Triggered when the step should end: by a cancellation or the deadline while going forward,
    /// by the end of the undo budget while going back. A step that does not end within the
    /// context's `step_grace` is dropped.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// An error if the step should end; for loops.
    ///
    /// # Errors
    /// A temporary error, so that `cx.go_on()?` ends the step.
    pub fn go_on(&self) -> Result<(), StepError> {
        if self.cancel.is_cancelled() {
            return Err(StepError::temporary("the step was asked to end"));
        }
        Ok(())
    }

    /// Learns a fact once: what was noted under this key before, else what the future answers,
    /// which is made durable *before* it is returned. Where it was noted before, the future is dropped
    /// without being polled: what it would have done besides does not happen.
    ///
    /// A second run of the step, after a crash, then does not mistake its own effect for the old
    /// state. Keys belong to the resource: later steps on it, and undos, read them with
    /// [`noted`](Self::noted).
    ///
    /// # Errors
    /// Those of the future; and that the note cannot be written, or holds a secret.
    pub async fn observe<T, F>(&self, key: &str, fact: F) -> Result<T, StepError>
    where
        T: Serialize + DeserializeOwned + Send,
        F: Future<Output = Result<T, StepError>> + Send,
    {
        if let Some(known) = self.noted(key)? {
            return Ok(known);
        }
        let fact = fact.await?;
        let Some(ledger) = &self.ledger else { return Ok(fact) };
        let value = serde_json::to_value(&fact).map_err(|error| {
            StepError::permanent(format!("the note `{key}` cannot be written as JSON: {error}"))
        })?;
        if self.cx.redactor().finds_in(&value.to_string()) {
            return Err(StepError::permanent(format!("the note `{key}` holds a secret"))
                .remedy("note a reference to the secret, such as the name of its variable"));
        }
        ledger.note(self.index, self.resource.clone(), key.to_owned(), value).await?;
        Ok(fact)
    }

    /// What was noted under this key by a step on the same resource.
    ///
    /// # Errors
    /// If the note is of another type.
    pub fn noted<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StepError> {
        self.noted_by(&self.resource, key)
    }

    /// What was noted under this key by a step on another resource of the operation.
    ///
    /// # Errors
    /// If the note is of another type.
    pub fn noted_by<T: DeserializeOwned>(
        &self,
        resource: &ResourceId,
        key: &str,
    ) -> Result<Option<T>, StepError> {
        let Some(note) = self.ledger.as_ref().and_then(|ledger| ledger.noted(resource, key)) else {
            return Ok(None);
        };
        serde_json::from_value(note).map(Some).map_err(|error| {
            StepError::permanent(format!("the note `{key}` of {resource} cannot be read: {error}"))
        })
    }

    /// Runs blocking work on a thread of its own. The engine waits for it before it undoes
    /// anything, even if the step itself was dropped; so the work looks at the token that it is
    /// given, and ends when it is cancelled.
    ///
    /// # Errors
    /// Those of the work; a panic in it is a permanent error.
    pub async fn blocking<T, E, F>(&self, work: F) -> Result<T, StepError>
    where
        T: Send + 'static,
        E: Into<StepError> + Send + 'static,
        F: FnOnce(&CancellationToken) -> Result<T, E> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let span = tracing::Span::current();
        match self.blocking.spawn_blocking(move || span.in_scope(|| work(&cancel))).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(join) => Err(StepError::permanent(format!("the step panicked: {join}"))),
        }
    }

    /// A place where the crash harness may kill the process: between the halves of an effect.
    /// Does nothing outside tests.
    pub fn fault_point(&self, name: &str) {
        crate::fault::point(name);
    }

    /// Runs a future, and ends it when the step should end.
    ///
    /// # Errors
    /// A temporary error when the step should end; the future is dropped then.
    pub async fn until_cancelled<F: Future>(&self, future: F) -> Result<F::Output, StepError> {
        let interrupted = StepError::temporary("the step was asked to end");
        debug_assert_eq!(interrupted.class(), Class::Temporary);
        self.cancel.run_until_cancelled(future).await.ok_or(interrupted)
    }
}
