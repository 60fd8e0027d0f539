//! What a journal records.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Class;
use crate::approval::Approval;
use crate::environment::Environment;
use crate::operation_id::OperationId;
use crate::outcome::AbortReason;
use crate::plan::Plan;
use crate::resource::ResourceId;

/// The format of journals that this crate writes. Older ones are read, newer ones refused by name.
pub const JOURNAL_SCHEMA: u32 = 1;

/// The first record: everything that a recovery in another process needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Began {
    /// The version of the journal's format.
    pub schema: u32,
    /// The operation.
    pub id: OperationId,
    /// Whose journal it is.
    pub program: String,
    /// The process that began it.
    pub pid: u32,
    /// Where it runs.
    pub environment: Environment,
    /// Who approved it, if an approval was needed.
    pub approval: Option<Approval>,
    /// What it is going to do.
    pub plan: Plan,
}

impl Began {
    /// The first record of an operation that this process begins.
    pub fn new(
        id: OperationId,
        program: String,
        environment: Environment,
        approval: Option<Approval>,
        plan: Plan,
    ) -> Self {
        let pid = std::process::id();
        Self { schema: JOURNAL_SCHEMA, id, program, pid, environment, approval, plan }
    }
}

/// How an operation was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The new state, and every finisher is done.
    Completed,
    /// The old state.
    RolledBack,
    /// A person brought it to an end by hand.
    Resolved {
        /// Which state the person says is in place.
        state: ResolvedState,
        /// Who.
        by: String,
        /// What was done.
        reason: String,
    },
}

/// Which state a person left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedState {
    /// Everything is as before the operation.
    Old,
    /// Everything is as the operation wanted it.
    New,
}

/// One record of a journal. Steps are counted over changes and finishers together, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// The operation begins.
    Began(Box<Began>),
    /// A change is about to run.
    Intent {
        /// Which.
        step: usize,
    },
    /// A fact was learned, and its effect comes after this record.
    Noted {
        /// By which step.
        step: usize,
        /// About what.
        resource: ResourceId,
        /// Its name.
        key: String,
        /// The fact.
        value: Value,
    },
    /// A change's effect is there.
    Done {
        /// Which.
        step: usize,
    },
    /// The operation goes back.
    Aborting {
        /// What kind of thing made it go back.
        #[serde(default)]
        why: AbortReason,
        /// Why, outermost message first.
        cause: Vec<String>,
        /// Whether the same operation may succeed later. Absent where it cannot.
        #[serde(default, skip_serializing_if = "Class::is_permanent")]
        class: Class,
    },
    /// A change is about to be undone.
    Undoing {
        /// Which.
        step: usize,
    },
    /// A change's effect is gone.
    Undone {
        /// Which.
        step: usize,
    },
    /// A change could not be undone.
    UndoFailed {
        /// Which.
        step: usize,
        /// Why, outermost message first.
        error: Vec<String>,
        /// What a person does about it.
        remedy: String,
    },
    /// The pivot: from here the operation only goes forward.
    Committed,
    /// A finisher is about to run.
    Finishing {
        /// Which.
        step: usize,
    },
    /// A finisher has succeeded.
    Finished {
        /// Which.
        step: usize,
    },
    /// A finisher has failed for now.
    FinishFailed {
        /// Which.
        step: usize,
        /// Why, outermost message first.
        error: Vec<String>,
    },
    /// The operation has ended.
    Closed {
        /// How.
        end: End,
    },
}

impl Record {
    /// Whether what follows relies on this record being on disk. Losing one of the others means
    /// "in doubt", which every step can deal with.
    pub fn must_be_durable(&self) -> bool {
        !matches!(self, Self::Done { .. } | Self::Undone { .. } | Self::Undoing { .. })
            && !matches!(self, Self::Finished { .. })
    }
}

/// A record with its place in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 0 without gaps.
    pub seq: u64,
    /// When it was written, by the wall clock.
    pub at: Timestamp,
    /// What it records.
    pub record: Record,
}
