//! What an operation leaves behind for its readers: one report.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::host::HostMetrics;
use crate::operation_id::OperationId;
use crate::outcome::Outcome;
use crate::resource::ResourceId;
use crate::version::Version;

/// The format of reports that this crate writes.
pub const REPORT_SCHEMA: u32 = 1;

/// What became of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepStatus {
    /// Never started.
    NotRun,
    /// Its effect is there.
    Done,
    /// It was started and has neither succeeded nor been undone.
    InDoubt,
    /// Its effect is gone again.
    Undone,
    /// Its undo failed.
    UndoFailed,
    /// It is a finisher that has not succeeded yet.
    Failed,
}

/// One step in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Its short name.
    pub name: String,
    /// What it acts on.
    pub resource: ResourceId,
    /// What it does.
    pub what: String,
    /// What became of it.
    pub status: StepStatus,
    /// How long it ran in this process, in milliseconds; its undo counted.
    pub duration_ms: u64,
}

/// The one report of an operation; as JSON, one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this format.
    pub schema: u32,
    /// When the operation ended.
    pub timestamp: Timestamp,
    /// The operation and how it went, for filters: `deploy_success`, `rollback_failure`.
    pub event: String,
    /// Its id, which is also its journal's name.
    pub id: OperationId,
    /// Its name.
    pub operation: String,
    /// The version it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where it ran.
    pub environment: Environment,
    /// What the state is.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whether `recover` ended it in place of the process that began it.
    pub recovered: bool,
    /// How long it took in this process, in milliseconds.
    pub duration_ms: u64,
    /// The machine.
    pub hostname: String,
    /// The user.
    pub user: String,
    /// The program, as the context names it.
    pub program: String,
    /// Who approved it, if an approval was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// The plan's facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// What the steps noted while they ran.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Value>,
    /// Its steps, in the order in which they stand in the plan.
    pub steps: Vec<StepReport>,
    /// The messages of the error that ended it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error: Vec<String>,
    /// What went wrong besides without changing the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The machine's load when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostMetrics>,
}

impl Report {
    /// The event's name: the operation's, and whether the new state is in place.
    pub(crate) fn event_name(operation: &str, outcome: &Outcome) -> String {
        let end = match outcome {
            Outcome::Completed | Outcome::FinishersPending { .. } => "success",
            Outcome::RolledBack { .. } => "failure",
            Outcome::Refused { .. } => "refused",
            Outcome::NeedsPerson { .. } => "needs_person",
            Outcome::CommitUnknown => "commit_unknown",
        };
        format!("{operation}_{end}")
    }
}
