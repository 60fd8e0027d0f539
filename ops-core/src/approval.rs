//! Who says that a plan may run.

use std::fmt;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Error;
use crate::plan::{Plan, PlanDigest};

/// What an approver is asked.
#[derive(Debug)]
#[non_exhaustive]
pub struct ApprovalRequest<'a> {
    /// The plan, for reading.
    pub plan: &'a Plan,
    /// What the approval will be bound to.
    pub digest: PlanDigest,
    /// Where the plan is to run.
    pub environment: Environment,
    /// Why it needs an approval, one line a step.
    pub because: Vec<String>,
}

/// What an approver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The plan may run.
    Granted {
        /// Who said so; it goes into journal and report.
        by: String,
        /// For how long; the operation must have started by then.
        valid_for: Duration,
    },
    /// The plan may not run.
    Denied {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// Says whether a plan that needs an approval may run: a prompt, a token, a policy.
pub trait Approver: fmt::Debug + Send + Sync {
    /// Decides. It is called only for plans that need an approval.
    ///
    /// The future is dropped when the context is cancelled, or its deadline has passed, before it has
    /// answered. What it leaves to a thread, such as a read from a terminal, goes on.
    fn decide<'a>(
        &'a self,
        request: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, Error>>;
}

/// How long an approval is valid by default: long enough to take the locks, too short to be kept.
pub const VALID_FOR: Duration = Duration::from_mins(15);

/// Approves nothing: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApproveNothing;

impl Approver for ApproveNothing {
    fn decide<'a>(
        &'a self,
        request: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, Error>> {
        let reason = format!(
            "no approver is set up; read the plan and approve its digest {}",
            request.digest
        );
        async { Ok(Decision::Denied { reason }) }.boxed()
    }
}

/// Approves the one plan that has this digest: what a person read in a dry run, and nothing else.
#[derive(Debug, Clone)]
pub struct ApproveDigest {
    digest: PlanDigest,
    by: String,
}

impl ApproveDigest {
    /// Approves the plan with this digest, in the name of `by`.
    pub fn new(digest: PlanDigest, by: impl Into<String>) -> Self {
        Self { digest, by: by.into() }
    }
}

impl Approver for ApproveDigest {
    fn decide<'a>(
        &'a self,
        request: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, Error>> {
        let decision = if request.digest == self.digest {
            Decision::Granted { by: self.by.clone(), valid_for: VALID_FOR }
        } else {
            Decision::Denied {
                reason: format!(
                    "the plan is not the one that was approved: its digest is {}, approved was {}; \
                     the state has moved since, read the new plan",
                    request.digest, self.digest
                ),
            }
        };
        async { Ok(decision) }.boxed()
    }
}

/// Approves what a policy of yours accepts.
pub struct ApproveIf<F> {
    by: String,
    accept: F,
}

impl<F: Fn(&ApprovalRequest<'_>) -> bool + Send + Sync> ApproveIf<F> {
    /// Approves, in the name of `by`, each request for which `accept` answers true.
    pub fn new(by: impl Into<String>, accept: F) -> Self {
        Self { by: by.into(), accept }
    }
}

impl<F> fmt::Debug for ApproveIf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApproveIf").field("by", &self.by).finish_non_exhaustive()
    }
}

impl<F: Fn(&ApprovalRequest<'_>) -> bool + Send + Sync> Approver for ApproveIf<F> {
    fn decide<'a>(
        &'a self,
        request: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, Error>> {
        let decision = if (self.accept)(request) {
            Decision::Granted { by: self.by.clone(), valid_for: VALID_FOR }
        } else {
            Decision::Denied { reason: format!("the policy of `{}` does not accept it", self.by) }
        };
        async { Ok(decision) }.boxed()
    }
}

/// The record of an approval, as it stands in journal and report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Approval {
    /// The plan that it is bound to.
    pub digest: PlanDigest,
    /// Where that plan may run.
    pub environment: Environment,
    /// Who approved it.
    pub by: String,
    /// Since when.
    pub granted_at: Timestamp,
    /// Until when the operation must have started.
    pub expires_at: Timestamp,
}

/// A plan that may run: the only thing that [`run`](crate::saga::run) accepts.
///
/// It comes from [`Context::approve`](crate::Context::approve) and from nowhere else; it cannot be
/// made by hand, cloned or deserialised, and running it uses it up.
///
/// ```compile_fail,E0451
/// # use ops_core::{Approved, Plan};
/// let forged = Approved { plan: Plan::new("drop everything"), approval: None };
/// ```
/// ```compile_fail,E0308
/// # async fn wrong(plan: ops_core::Plan, world: &dyn ops_core::World, cx: &ops_core::Context) {
/// ops_core::saga::run(plan, world, cx).await; // a plan is not an approved plan
/// # }
/// ```
/// ```compile_fail,E0599
/// # fn twice(approved: ops_core::Approved) {
/// let second = approved.clone();
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn from_disk(json: &str) {
/// let approved: Result<ops_core::Approved, _> = serde_json::from_str(json);
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an approved plan does nothing until it is run"]
pub struct Approved {
    pub(crate) plan: Plan,
    pub(crate) environment: Environment,
    pub(crate) approval: Option<Approval>,
}

impl Approved {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The approval, if the plan needed one.
    pub fn approval(&self) -> Option<&Approval> {
        self.approval.as_ref()
    }
}
