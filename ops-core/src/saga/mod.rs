//! The engine: runs approved plans, and recovers the ones that were interrupted.

mod ledger;
mod step_context;
mod world;

pub use step_context::StepContext;
pub use world::{AnyResource, World};

use crate::approval::Approved;
use crate::context::Context;
use crate::error::Error;
use crate::plan::Plan;
use crate::report::Report;

/// Runs an approved plan.
pub async fn run(_approved: Approved, _world: &dyn World, _cx: &Context) -> Result<Report, Error> {
    Err(Error::new(crate::ErrorKind::Plan, "soon"))
}

/// What [`recover`] did.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Recovery {
    /// One report for each operation that was brought to its end.
    pub reports: Vec<Report>,
    /// Operations on these resources that a living process is running now.
    pub running: Vec<crate::OperationId>,
}

/// Ends every interrupted operation on the world's resources.
pub async fn recover(_world: &dyn World, _cx: &Context) -> Result<Recovery, Error> {
    Err(Error::new(crate::ErrorKind::Plan, "soon"))
}

impl Context {
    /// Asks for the approval that a plan needs here.
    pub async fn approve(&self, _plan: Plan, _world: &dyn World) -> Result<Approved, Error> {
        Err(Error::new(crate::ErrorKind::Plan, "soon"))
    }

    /// Approves and runs a plan.
    pub async fn execute(&self, plan: Plan, world: &dyn World) -> Result<Report, Error> {
        run(self.approve(plan, world).await?, world, self).await
    }
}
