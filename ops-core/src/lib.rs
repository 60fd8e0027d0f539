//! Dangerous operations as plans of reversible steps.

pub mod approval;
pub mod clock;

pub mod context;
#[cfg(feature = "test-util")]
pub mod crash;
pub mod effect;
pub mod environment;
pub mod error;
pub mod event;
pub mod fault;
pub mod fs;
pub mod host;
pub mod journal;
pub mod lock;
mod operation_id;
pub mod operations;
pub mod outcome;
pub mod plan;
pub mod probe;
pub mod process;
pub mod progress;
pub mod report;
pub mod reporter;
mod resource;
pub mod retry;
pub mod saga;
pub mod secret;
pub mod step;
pub mod version;

pub use approval::{
    Approval, ApprovalRequest, ApproveDigest, ApproveIf, ApproveNothing, Approved, Approver,
    Decision,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use context::{Context, ContextBuilder};
pub use effect::{Effect, EffectKind};
pub use environment::Environment;
pub use error::{Class, Classify, Error, ErrorKind, Refusal, StepError};
pub use event::{Event, Observer};
pub use operation_id::OperationId;
pub use outcome::Outcome;
pub use plan::{Plan, PlanDigest, PlannedStep};
pub use progress::Progress;
pub use report::{Report, StepReport, StepStatus};
pub use reporter::Reporter;
pub use resource::{Resource, ResourceId};
pub use saga::{Recovery, StepContext, World, recover, run};
pub use secret::{Redactor, Secret};
pub use step::Step;
pub use version::{CommitId, Version};
