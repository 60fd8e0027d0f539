//! The end of an operation: its one report, told to everyone, and the error if it is none of the
//! good ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::approval::Approval;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Refusal};
use crate::event::Event;
use crate::host::{self, LoadSampler};
use crate::journal::{Began, State};
use crate::operation_id::OperationId;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::report::{REPORT_SCHEMA, Report, StepReport, StepStatus};

/// What a report is made of.
#[derive(Debug)]
pub(super) struct Conclusion<'a> {
    pub id: OperationId,
    pub plan: &'a Plan,
    pub approval: Option<&'a Approval>,
    pub recovered: bool,
    /// On the clock's `elapsed`.
    pub started: Duration,
    /// From its beginning on.
    pub load: Option<LoadSampler>,
    pub state: Option<&'a State>,
    pub took: &'a [Duration],
    pub error: &'a [String],
    pub warnings: &'a [String],
}

impl<'a> Conclusion<'a> {
    /// Of an operation that did not begin.
    pub fn not_begun(cx: &Context, plan: &'a Plan) -> Self {
        Self {
            id: OperationId::generate(),
            plan,
            approval: None,
            recovered: false,
            started: cx.clock().elapsed(),
            load: None,
            state: None,
            took: &[],
            error: &[],
            warnings: &[],
        }
    }

    /// Of an operation as its journal tells it.
    pub fn of(began: &'a Began, state: &'a State, cx: &Context) -> Self {
        Self {
            id: began.id,
            plan: &began.plan,
            approval: began.approval.as_ref(),
            state: Some(state),
            ..Self::not_begun(cx, &began.plan)
        }
    }

    /// The report, told to observers and reporters.
    pub async fn report(mut self, cx: &Context, outcome: Outcome) -> Report {
        let took = cx.clock().elapsed().saturating_sub(self.started);
        let event =
            Event::Ended { id: self.id, operation: &self.plan.operation, outcome: &outcome, took };
        for observer in &cx.0.observers {
            observer.event(&event);
        }
        let disk = cx.state_dir().to_owned();
        let load = self.load.take().unwrap_or_else(LoadSampler::start);
        let facts = move || (Some(load.finish(&disk)), host::hostname(), host::user());
        let (host, hostname, user) = tokio::task::spawn_blocking(facts).await.unwrap_or_default();
        let report = Report {
            schema: REPORT_SCHEMA,
            timestamp: cx.clock().now(),
            event: Report::event_name(&self.plan.operation, &outcome),
            id: self.id,
            operation: self.plan.operation.clone(),
            version: self.plan.version.clone(),
            environment: cx.environment(),
            outcome,
            recovered: self.recovered,
            duration_ms: millis(took),
            hostname,
            user,
            program: cx.0.program.clone(),
            approved_by: self.approval.map(|approval| approval.by.clone()),
            facts: self.plan.facts.clone(),
            notes: self.notes(),
            steps: self.steps(),
            error: self.error.to_vec(),
            warnings: self.warnings.to_vec(),
            host,
        };
        crate::reporter::fan_out(cx, &report).await;
        report
    }

    fn steps(&self) -> Vec<StepReport> {
        let step = |(at, planned): (usize, &crate::plan::PlannedStep)| StepReport {
            name: planned.name.clone(),
            resource: planned.resource.clone(),
            what: planned.effect.what.clone(),
            status: self.state.map_or(StepStatus::NotRun, |state| state.status(at)),
            duration_ms: self.took.get(at).map_or(0, |took| millis(*took)),
        };
        self.plan.steps().enumerate().map(step).collect()
    }

    fn notes(&self) -> BTreeMap<String, serde_json::Value> {
        let mut notes = BTreeMap::new();
        for (resource, of_it) in self.state.iter().flat_map(|state| state.notes()) {
            for (key, value) in of_it {
                notes.insert(format!("{resource} {key}"), value.clone());
            }
        }
        notes
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The error of an operation that was refused before it began.
pub(super) async fn refused(
    cx: &Context,
    conclusion: Conclusion<'_>,
    reasons: Vec<Refusal>,
) -> Error {
    let operation = conclusion.plan.operation.clone();
    let outcome = Outcome::Refused { reasons: reasons.clone() };
    let report = conclusion.report(cx, outcome).await;
    Error::new(ErrorKind::Refused, format!("`{operation}` is refused, nothing was changed"))
        .class_of(report.outcome.class())
        .refusals(reasons)
        .with_report(report)
}

/// A good end is a report, every other one an error that holds the report: so no end can be
/// mistaken for a good one.
pub(super) fn result(report: Report) -> Result<Report, Error> {
    let operation = &report.operation;
    let (kind, message, remedy) = match &report.outcome {
        Outcome::Completed | Outcome::FinishersPending { .. } => return Ok(report),
        Outcome::RolledBack { cause, .. } => (
            ErrorKind::RolledBack,
            format!("`{operation}` went back to the old state: {cause}"),
            None,
        ),
        Outcome::Refused { .. } => {
            (ErrorKind::Refused, format!("`{operation}` is refused, nothing was changed"), None)
        }
        Outcome::NeedsPerson { what_to_do } => (
            ErrorKind::NeedsPerson,
            format!("`{operation}` is between the old state and the new one"),
            Some(what_to_do.clone()),
        ),
        Outcome::CommitUnknown => (
            ErrorKind::CommitUnknown,
            format!("whether `{operation}` stays in place is not known"),
            Some("make the journal's disk writable, then call `recover`".to_owned()),
        ),
    };
    let class = report.outcome.class();
    let mut error = Error::new(kind, message).class_of(class).with("operation", report.id);
    if let Some(remedy) = remedy {
        error = error.remedy(remedy);
    }
    Err(error.with_report(report))
}
