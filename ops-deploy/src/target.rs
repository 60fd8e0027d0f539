//! What can be deployed to.

use std::fmt::Debug;
use std::net::SocketAddr;

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use ops_core::{Context, Plan, Refusal, Report, Version, World};

use crate::error::Error;
use crate::history::History;

/// One instance that runs on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Which version it runs.
    pub version: Version,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it takes the traffic.
    pub in_traffic: bool,
}

/// What was seen on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// The version in service; `None` if none is, or if that cannot be told.
    pub current: Option<Version>,
    /// Why it cannot be told which version is in service; empty if it can.
    pub contradictions: Vec<Refusal>,
    /// What runs.
    pub running: Vec<Running>,
    /// The complete versions, oldest first.
    pub versions: Vec<Version>,
}

impl Observed {
    /// What was looked at; where that contradicts itself, no version is in service for sure.
    pub(crate) fn new(
        current: Result<Option<&Version>, Error>,
        running: Vec<Running>,
        versions: Vec<Version>,
    ) -> Self {
        let (current, contradictions) = match current {
            Ok(current) => (current.cloned(), Vec::new()),
            Err(error) => (None, error.reasons().to_vec()),
        };
        Self { current, contradictions, running, versions }
    }
}

/// One version that a target knows, complete or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// The version.
    pub version: Version,
    /// What it lacks to be complete; empty if it is.
    pub lacking: Vec<String>,
    /// When it was made, where that can be told.
    pub made: Option<Timestamp>,
    /// Whether anything of it runs.
    pub runs: bool,
    /// Whether it is in service.
    pub in_service: bool,
}

/// Who holds the lock of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// The operation.
    pub operation: String,
    /// Which process on which machine.
    pub who: String,
    /// Since when, by the engine's clock.
    pub since: Timestamp,
    /// From when on it is taken over, by the engine's clock.
    pub until: Timestamp,
}

/// What can be deployed to. Programs hold it as `dyn Target`; each target has steps of its own.
///
/// Planning reads only. A plan composes with those of other crates; whoever runs the composition
/// adds the target's [`world`](Self::world) to the worlds of the others:
///
/// ```
/// # use ops_core::{Context, Plan, Report, Version, World};
/// # use ops_deploy::{Error, Target};
/// async fn update(export: Plan, repository: &dyn World, site: &dyn Target, version: &Version, cx: &Context)
///     -> Result<Report, Error>
/// {
///     let plan = export.then(site.plan_deploy(version).await?).named("update");
///     let world = site.world();
///     let world: &dyn World = &*world;
///     Ok(cx.execute(plan, &(repository, world)).await?)
/// }
/// ```
pub trait Target: Debug + Send + Sync {
    /// Its name, the same in every process.
    fn name(&self) -> String;

    /// What the steps of its plans act on.
    fn world(&self) -> Box<dyn World + Send + '_>;

    /// What is there.
    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>>;

    /// The complete versions, oldest first.
    fn versions(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>>;

    /// All versions that are known, complete or not, oldest first.
    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>>;

    /// What was in service when, as this machine's record and what is seen tell.
    fn history(&self) -> BoxFuture<'_, Result<History, Error>>;

    /// Who holds the lock on the engine. What is deployed on this machine alone has none there: a
    /// kernel's lock in its folder excludes others while their process lives.
    fn lock_holder(&self) -> BoxFuture<'_, Result<Option<LockHolder>, Error>> {
        async { Ok(None) }.boxed()
    }

    /// Plans to bring a version into service. The plan is empty if it is, and is well.
    fn plan_deploy<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Plan, Error>>;

    /// Plans to go back: to this version, or to the one that was in service before.
    fn plan_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>>;

    /// Plans to go back in an emergency: without the gate, but with the journal. It is enough that
    /// the version that comes takes connections; nobody asks for its health. The plan says so, as
    /// the fact `emergency=true`.
    fn plan_emergency_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>>;

    /// Plans to go back although a migration has closed the way, for somebody who has taken it back,
    /// or knows better. The plan says so, as the fact `across migration`. Without such a migration it
    /// is [`plan_rollback`](Self::plan_rollback), which refuses a closed way.
    fn plan_rollback_across_migrations(
        &self,
        to: Option<Version>,
    ) -> BoxFuture<'_, Result<Plan, Error>>;

    /// What is there: a name for [`observe`](Self::observe) among the verbs.
    fn status(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        self.observe()
    }

    /// Brings a version into service. Dropping the future leaves a journal that
    /// [`recover`](ops_core::recover) brings to its end.
    fn deploy<'a>(
        &'a self,
        cx: &'a Context,
        version: &'a Version,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_deploy(version).await?;
            let world = self.world();
            Ok(cx.execute(plan, &*world).await?)
        }
        .boxed()
    }

    /// Goes back: to this version, or to the one that was in service before. Dropping the future
    /// leaves a journal that [`recover`](ops_core::recover) brings to its end.
    fn rollback<'a>(
        &'a self,
        cx: &'a Context,
        to: Option<Version>,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_rollback(to).await?;
            let world = self.world();
            Ok(cx.execute(plan, &*world).await?)
        }
        .boxed()
    }

    /// Goes back in an emergency, as [`plan_emergency_rollback`](Self::plan_emergency_rollback)
    /// says. Dropping the future leaves a journal that [`recover`](ops_core::recover) brings to
    /// its end.
    fn emergency_rollback<'a>(
        &'a self,
        cx: &'a Context,
        to: Option<Version>,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_emergency_rollback(to).await?;
            let world = self.world();
            Ok(cx.execute(plan, &*world).await?)
        }
        .boxed()
    }
}
