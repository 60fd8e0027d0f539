//! The unit of an operation: a value that knows how to go forward and how to go back.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::effect::Effect;
use crate::error::{Refusal, StepError};
pub use crate::saga::StepContext;

/// One reversible step of an operation.
///
/// A step is a *value*: everything it needs to know is in its fields, which go into the plan and
/// the journal. What can only be learned while it runs goes through
/// [`StepContext::observe`]. After a crash, a new process reads the value back and calls
/// [`undo`](Self::undo), or for a finisher [`run`](Self::run), so:
///
/// - `run` and `undo` may be called twice, and after either of them was left half done;
/// - `run` returns only when its effect is durable;
/// - `undo` is also called when `run` was never reached, but only promised;
/// - neither believes its memory: each looks at the state first.
///
/// Write both as `async fn`. They may be dropped at any `.await` once the operation's deadline and
/// a grace have passed. Blocking work goes through [`StepContext::blocking`], which the engine
/// waits for before it undoes.
pub trait Step: Serialize + DeserializeOwned + PartialEq + Send + Sync + 'static {
    /// The family's stable name, which goes into journals: `git`.
    const FAMILY: &'static str;

    /// What it acts on.
    type Env: ?Sized + Sync;

    /// A short stable name for events and metrics: `move_branch`.
    fn name(&self) -> &'static str;

    /// What it does. Derived from the value alone; it is compared with the plan before anything
    /// runs.
    fn effect(&self) -> Effect;

    /// What must hold before the operation starts: every reason against it at once.
    ///
    /// Called for all steps of a plan before the first one runs, so a step that depends on an
    /// earlier one's change checks that in [`run`](Self::run) instead. When the operation is cancelled,
    /// or its deadline passes, the future is dropped, and the context's token triggered.
    fn check(
        &self,
        env: &Self::Env,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Vec<Refusal>, StepError>> + Send {
        let _ = (env, cx);
        async { Ok(Vec::new()) }
    }

    /// Goes forward.
    fn run(
        &self,
        env: &Self::Env,
        cx: &StepContext,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Goes back. Never called for a step whose effect only reads, nor for a retained one that is
    /// done; for a retained one that is in doubt it clears away what is half done and keeps what
    /// is whole.
    fn undo(
        &self,
        env: &Self::Env,
        cx: &StepContext,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}
