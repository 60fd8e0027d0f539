//! Dangerous operations as plans of reversible steps: after an error, a deadline or `kill -9`, the
//! state is the old one or the new one, never one between.
//!
//! ```
//! use std::path::PathBuf;
//! use ops_core::{Context, Effect, Environment, Plan, Resource, ResourceId};
//! use ops_core::{Step, StepContext, StepError};
//! use serde::{Deserialize, Serialize};
//!
//! /// What is acted on: a file with a setting.
//! struct Setting(PathBuf);
//!
//! /// A step is a value, which knows the new state and the old one.
//! #[derive(PartialEq, Serialize, Deserialize)]
//! struct Set { old: String, new: String }
//!
//! impl Resource for Setting {
//!     type Step = Set;
//!     fn id(&self) -> ResourceId { ResourceId::new("setting", self.0.display()) }
//! }
//!
//! impl Step for Set {
//!     const FAMILY: &'static str = "setting";
//!     type Env = Setting;
//!     fn name(&self) -> &'static str { "set" }
//!     fn effect(&self) -> Effect { Effect::changes(format!("set `{}`", self.new)) }
//!     async fn run(&self, setting: &Setting, _: &StepContext) -> Result<(), StepError> {
//!         Ok(ops_core::fs::atomic_write(&setting.0, self.new.as_bytes())?)
//!     }
//!     async fn undo(&self, setting: &Setting, _: &StepContext) -> Result<(), StepError> {
//!         Ok(ops_core::fs::atomic_write(&setting.0, self.old.as_bytes())?)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let file = dir.path().join("colour");
//! # std::fs::write(&file, "blue")?;
//! let setting = Setting(file);
//! let cx = Context::builder(dir.path().join("state")).environment(Environment::Staging).build();
//! let _ = ops_core::recover(&&setting, &cx).await?; // what an earlier process left half done
//!
//! let step = Set { old: "blue".into(), new: "green".into() };
//! let plan = Plan::new("repaint").change(&setting, &step)?;
//! println!("{plan}"); // the dry run
//! let report = cx.execute(plan, &&setting).await?; // approve, journal, run, report
//! assert_eq!(report.outcome.name(), "completed");
//! assert_eq!(std::fs::read_to_string(&setting.0)?, "green");
//! # Ok(())
//! # }
//! ```
//!
//! # The way through
//!
//! | to | look at |
//! |---|---|
//! | write steps | [`Step`], [`Resource`], [`Effect`], [`StepContext`] |
//! | put them together | [`Plan`]: changes, the commit, finishers; [`Plan::then`] joins plans of any crates |
//! | say who may run what | [`Environment`], [`Approver`], [`Approved`] |
//! | run them | [`Context::execute`], [`run`], [`recover`] |
//! | read how it ended | [`Outcome`], [`Report`], [`Reporter`], [`Event`] |
//! | see and settle what is unfinished | [`operations`] |
//! | ask whether something is well | [`probe`], [`host`] |
//! | do the work inside a step | [`process`], [`fs`], [`lock`], [`retry`], [`Secret`], [`Clock`] |
//! | kill it at every place, in a test | `crash`, with the feature `test-util` |
//!
//! # What the engine promises
//!
//! - Each step is in a durable journal before it runs; without a journal nothing runs.
//! - Changes are undone in reverse order after an error, a deadline, a cancellation or a failed
//!   check; after the commit record, finishers are repeated until they succeed.
//! - [`recover`] brings what a dead process left back, or forward if it was committed. An unfinished
//!   operation blocks its resources.
//! - `Ok` is the new state. Every other end is an [`Error`] whose kind tells which state is in place.
//!
//! What a step must do for that is said at [`Step`].
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `http` | yes | [`probe::HttpProbe`] |
//! | `test-util` | no | fault points and the crash harness `crash`, for tests |
//!
//! Proven on Linux; other platforms are not supported yet.

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
pub use outcome::{AbortReason, Outcome};
pub use plan::{Plan, PlanDigest, PlannedStep};
pub use progress::Progress;
pub use report::{Report, StepReport, StepStatus};
pub use reporter::Reporter;
pub use resource::{Resource, ResourceId};
pub use saga::{Recovery, StepContext, World, recover, run};
pub use secret::{Redactor, Secret};
pub use step::Step;
pub use version::{CommitId, Version};
