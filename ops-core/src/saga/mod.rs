//! The engine: runs approved plans, and recovers the ones that were interrupted.
//!
//! The path of a plan through this folder: [`Context::approve`](crate::Context::approve) ->
//! [`run`] -> locks -> preflight -> drive -> conclude; [`recover`] enters at drive. The ledger
//! holds the journal and its state, and is the only one who moves them.

mod approve;
mod conclude;
mod drive;
mod ledger;
mod locks;
mod preflight;
mod recover;
mod run;
mod step_context;
mod world;

pub use recover::{Recovery, recover};
pub use run::run;
pub use step_context::StepContext;
pub use world::{AnyResource, World};
