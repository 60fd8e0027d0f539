//! From a plan to a plan that may run.

use std::collections::BTreeMap;

use super::conclude::{Conclusion, refused};
use super::preflight;
use super::world::World;
use crate::approval::{Approval, ApprovalRequest, Approved, Decision, VALID_FOR};
use crate::context::{Context, Dangerous};
use crate::error::{Error, Refusal};
use crate::plan::Plan;
use crate::report::Report;

impl Context {
    /// Asks for the approval that a plan needs here: whatever destroys, and in production whatever
    /// changes. A plan that needs none is not shown to the approver.
    ///
    /// The answer is waited for until the context's cancellation, and no longer than the context's
    /// deadline; that of the operation begins when it runs.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`](crate::ErrorKind::Plan) if the plan does not fit the world;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if it is denied, or nobody has answered in
    /// time; the approver's own.
    ///
    /// # Cancellation
    /// Dropping the future leaves nothing behind. The approver's future is dropped when it is not
    /// waited for any more.
    pub async fn approve(&self, plan: Plan, world: &dyn World) -> Result<Approved, Error> {
        preflight::shows_no_secret(&plan, self.redactor())?;
        preflight::fits(&plan, world)?;
        let environment = self.environment();
        let because = because(self, &plan);
        if because.is_empty() {
            return Ok(Approved { plan, environment, approval: None });
        }
        let request = ApprovalRequest { digest: plan.digest(), plan: &plan, environment, because };
        let within = self.0.deadline;
        let decision = tokio::select! {
            biased;
            () = self.cancellation().cancelled() => Decision::Denied {
                reason: "the operation was cancelled before it was approved".to_owned(),
            },
            decision = self.0.approver.decide(&request) => decision?,
            () = self.clock().sleep(within) => Decision::Denied {
                reason: format!("nobody has answered within {within:?}"),
            },
        };
        match decision {
            Decision::Granted { by, valid_for } => {
                let approval = grant(self, &plan, by, valid_for);
                Ok(Approved { plan, environment, approval: Some(approval) })
            }
            Decision::Denied { reason } => {
                let reason = self.redactor().redact(&reason);
                let needed = format!("`{}` needs an approval in {environment}", plan.operation);
                let refusal =
                    Refusal::new(format!("{needed}: {reason}"), request.because.join("; "));
                Err(refused(self, Conclusion::not_begun(self, &plan), vec![refusal]).await)
            }
        }
    }

    /// Approves a plan and runs it: what a verb of a domain crate does.
    ///
    /// # Errors
    /// Those of [`approve`](Self::approve) and [`run`](crate::saga::run).
    ///
    /// # Cancellation
    /// As for [`run`](crate::saga::run).
    pub async fn execute(&self, plan: Plan, world: &dyn World) -> Result<Report, Error> {
        super::run(self.approve(plan, world).await?, world, self).await
    }
}

impl Dangerous<'_> {
    /// Approves a plan without asking the approver. `by` goes into journal and report.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`](crate::ErrorKind::Plan) if the plan does not fit the world.
    pub fn approve_unasked(
        &self,
        plan: Plan,
        world: &dyn World,
        by: impl Into<String>,
    ) -> Result<Approved, Error> {
        preflight::shows_no_secret(&plan, self.0.redactor())?;
        preflight::fits(&plan, world)?;
        let approval = grant(self.0, &plan, format!("{} (unasked)", by.into()), VALID_FOR);
        Ok(Approved { plan, environment: self.0.environment(), approval: Some(approval) })
    }
}

/// Why the plan needs an approval here: one line for each kind of effect that does.
fn because(cx: &Context, plan: &Plan) -> Vec<String> {
    let mut by_kind = BTreeMap::<String, Vec<&str>>::new();
    for step in plan.steps().filter(|step| cx.environment().needs_approval(step.effect.kind)) {
        by_kind.entry(step.effect.kind.to_string()).or_default().push(&step.effect.what);
    }
    by_kind.into_iter().map(|(kind, what)| format!("it {kind}: {}", what.join(", "))).collect()
}

fn grant(cx: &Context, plan: &Plan, by: String, valid_for: std::time::Duration) -> Approval {
    let granted_at = cx.clock().now();
    let span = jiff::SignedDuration::try_from(valid_for).unwrap_or(jiff::SignedDuration::MAX);
    let expires_at = granted_at.saturating_add(span).unwrap_or(jiff::Timestamp::MAX);
    let environment = cx.environment();
    Approval { digest: plan.digest(), environment, by, granted_at, expires_at }
}
