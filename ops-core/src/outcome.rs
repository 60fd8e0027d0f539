//! What the state is when an operation has ended.

use serde::{Deserialize, Serialize};

use crate::Class;
use crate::error::Refusal;

/// What the state *is* when an operation has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[non_exhaustive]
pub enum Outcome {
    /// The new state, and everything behind it is tidy.
    Completed,
    /// The new state; `recover` still has to finish what is named here.
    FinishersPending {
        /// The finishers that did not succeed yet.
        pending: Vec<String>,
    },
    /// The old state, but for what the plan lists as staying.
    RolledBack {
        /// What kind of thing made it go back.
        #[serde(default)]
        why: AbortReason,
        /// What it was, in words.
        cause: String,
        /// Whether the same operation may succeed later: that of the step's error, where one failed.
        /// Never [`Class::OutcomeUnknown`], for the old state is known to be there.
        #[serde(default, skip_serializing_if = "Class::is_permanent")]
        class: Class,
    },
    /// The old state: nothing was begun.
    Refused {
        /// Every reason, with its remedy.
        reasons: Vec<Refusal>,
    },
    /// Between the states: an undo failed, and a person must act.
    NeedsPerson {
        /// What to do.
        what_to_do: String,
    },
    /// The new state is in place, but whether it is the one that stays can only be told by
    /// `recover`: the commit record could be neither written nor taken back.
    CommitUnknown,
}

/// What made an operation go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AbortReason {
    /// A step failed, such as a probe that did not pass.
    #[default]
    StepFailed,
    /// The journal could not be written.
    JournalFailed,
    /// The operation's deadline passed.
    DeadlinePassed,
    /// It was cancelled.
    Cancelled,
    /// The process that ran it died; a recovery took it back.
    ProcessDied,
    /// A person took it back by hand.
    ByHand,
}

impl AbortReason {
    /// Whether the same operation may succeed later; a step that failed says so itself.
    pub(crate) fn class(self, of_the_step: Class) -> Class {
        match self {
            Self::StepFailed => of_the_step.of_the_old_state(),
            Self::JournalFailed | Self::ByHand => Class::Permanent,
            Self::DeadlinePassed | Self::Cancelled | Self::ProcessDied => Class::Temporary,
        }
    }
}

impl Outcome {
    /// Whether the new state is in place for good.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Completed | Self::FinishersPending { .. })
    }

    /// Whether the same operation may succeed later, where it did not.
    pub fn class(&self) -> Class {
        match self {
            Self::RolledBack { class, .. } => *class,
            Self::Refused { reasons } => {
                let passes = |reason: &Refusal| reason.class != Class::Permanent;
                let all = !reasons.is_empty() && reasons.iter().all(passes);
                if all { Class::Temporary } else { Class::Permanent }
            }
            Self::CommitUnknown => Class::OutcomeUnknown,
            Self::Completed | Self::FinishersPending { .. } | Self::NeedsPerson { .. } => {
                Class::Permanent
            }
        }
    }

    /// The stable name: `rolled_back`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::FinishersPending { .. } => "finishers_pending",
            Self::RolledBack { .. } => "rolled_back",
            Self::Refused { .. } => "refused",
            Self::NeedsPerson { .. } => "needs_person",
            Self::CommitUnknown => "commit_unknown",
        }
    }

    /// The exit code that programs of this family give: 0 the new state, 3 refused, 4 rolled back,
    /// 5 a person must look.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Completed | Self::FinishersPending { .. } => 0,
            Self::Refused { .. } => 3,
            Self::RolledBack { .. } => 4,
            Self::NeedsPerson { .. } | Self::CommitUnknown => 5,
        }
    }
}
