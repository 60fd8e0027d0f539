//! What happens while an operation runs: one stream, which feeds everything that watches.

use std::fmt::Debug;
use std::time::Duration;

use crate::operation_id::OperationId;
use crate::outcome::Outcome;
use crate::plan::{Plan, PlannedStep};

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The journal is open and the locks are held.
    Began {
        /// The operation.
        id: OperationId,
        /// What it is going to do.
        plan: &'a Plan,
        /// Whether this is a recovery.
        recovering: bool,
    },
    /// A step is about to go forward.
    StepStarted {
        /// The operation.
        id: OperationId,
        /// The step.
        step: &'a PlannedStep,
    },
    /// A step's effect is there.
    StepDone {
        /// The operation.
        id: OperationId,
        /// The step.
        step: &'a PlannedStep,
        /// How long it took.
        took: Duration,
    },
    /// A step failed; the operation goes back, or tries a finisher again.
    StepFailed {
        /// The operation.
        id: OperationId,
        /// The step.
        step: &'a PlannedStep,
        /// Why.
        error: &'a str,
    },
    /// The operation goes back.
    Aborting {
        /// The operation.
        id: OperationId,
        /// Why.
        cause: &'a str,
    },
    /// A step's effect is gone again.
    StepUndone {
        /// The operation.
        id: OperationId,
        /// The step.
        step: &'a PlannedStep,
        /// How long it took.
        took: Duration,
    },
    /// A step's undo failed for good.
    UndoFailed {
        /// The operation.
        id: OperationId,
        /// The step.
        step: &'a PlannedStep,
        /// Why.
        error: &'a str,
    },
    /// The commit record is durable: from here there is no way back.
    Committed {
        /// The operation.
        id: OperationId,
    },
    /// The operation ended in this process.
    Ended {
        /// The operation.
        id: OperationId,
        /// Its name.
        operation: &'a str,
        /// What the state is.
        outcome: &'a Outcome,
        /// How long it took in this process.
        took: Duration,
    },
}

/// Watches operations. It is called in between the steps, so it returns at once.
pub trait Observer: Debug + Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event<'_>);
}

/// Writes each event to `tracing`, under the target `ops`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceObserver;

impl Observer for TraceObserver {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Began { id, plan, recovering } => {
                tracing::info!(target: "ops", %id, operation = plan.operation, recovering, "began");
            }
            Event::StepStarted { id, step } => {
                tracing::debug!(target: "ops", %id, step = step.name, "{}", step.effect.what);
            }
            Event::StepDone { id, step, took } => {
                tracing::info!(target: "ops", %id, step = step.name, ?took, "done: {}", step.effect.what);
            }
            Event::StepFailed { id, step, error } => {
                tracing::warn!(target: "ops", %id, step = step.name, error, "step failed");
            }
            Event::Aborting { id, cause } => {
                tracing::warn!(target: "ops", %id, cause, "going back");
            }
            Event::StepUndone { id, step, took } => {
                tracing::info!(target: "ops", %id, step = step.name, ?took, "undone: {}", step.effect.what);
            }
            Event::UndoFailed { id, step, error } => {
                tracing::error!(target: "ops", %id, step = step.name, error, "undo failed");
            }
            Event::Committed { id } => tracing::info!(target: "ops", %id, "committed"),
            Event::Ended { id, operation, outcome, took } => {
                tracing::info!(target: "ops", %id, operation, outcome = outcome.name(), ?took, "ended");
            }
        }
    }
}

/// Counts in the `metrics` facade: `ops_operations_total{operation, outcome}`,
/// `ops_operation_seconds{operation, outcome}`, `ops_step_seconds{step}`,
/// `ops_step_failures_total{step}`. Nothing is recorded unless the program installs a recorder.
#[derive(Debug, Clone, Copy, Default)]
pub struct MetricsObserver;

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::StepDone { step, took, .. } => {
                metrics::histogram!("ops_step_seconds", "step" => step.name.clone())
                    .record(took.as_secs_f64());
            }
            Event::StepFailed { step, .. } | Event::UndoFailed { step, .. } => {
                metrics::counter!("ops_step_failures_total", "step" => step.name.clone())
                    .increment(1);
            }
            Event::Ended { operation, outcome, took, .. } => {
                let labels = [
                    ("operation", (*operation).to_owned()),
                    ("outcome", outcome.name().to_owned()),
                ];
                metrics::counter!("ops_operations_total", &labels).increment(1);
                metrics::histogram!("ops_operation_seconds", &labels).record(took.as_secs_f64());
            }
            _ => {}
        }
    }
}
