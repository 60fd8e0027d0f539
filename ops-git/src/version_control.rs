//! What users hold as `dyn`: any repository that holds versions.

use std::fmt::Debug;
use std::path::Path;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{CommitId, Context, Plan, Recovery, Report, Version, World};

use crate::blocker::Inspection;
use crate::error::Error;
use crate::merge::MergeOptions;
use crate::pull::PullOptions;
use crate::repository::GitRepository;
use crate::tag::TagOptions;
use crate::versions::VersionInfo;

/// A repository that holds versions: [`GitRepository`] on a disk, or
/// [`MemoryRepository`](crate::MemoryRepository) for the tests of whoever uses one.
///
/// The methods that plan change nothing, but for what [`plan_pull`](Self::plan_pull) fetches.
/// Plans are run by [`execute`](Self::execute), or joined with those of other crates and run in a
/// [`World`] that [`world`](Self::world) is part of.
pub trait VersionControl: Debug + Send + Sync {
    /// Looks, and names everything that stands in the way. See [`GitRepository::inspect`].
    fn inspect(&self) -> BoxFuture<'_, Result<Inspection, Error>>;

    /// Fetches, and plans a fast-forward. See [`GitRepository::plan_pull`].
    fn plan_pull<'a>(
        &'a self,
        cx: &'a Context,
        options: PullOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>>;

    /// Plans to write a version into a new folder. See [`GitRepository::plan_export`].
    fn plan_export<'a>(
        &'a self,
        version: &'a str,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<Plan, Error>>;

    /// Plans to merge a commit into a branch. See [`GitRepository::plan_merge`].
    fn plan_merge<'a>(
        &'a self,
        cx: &'a Context,
        revision: &'a str,
        options: MergeOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>>;

    /// Plans a new tag. See [`GitRepository::plan_tag`].
    fn plan_tag<'a>(
        &'a self,
        cx: &'a Context,
        name: &'a str,
        version: &'a str,
        options: TagOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>>;

    /// The newest versions, newest first. See [`GitRepository::versions`].
    fn versions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<VersionInfo>, Error>>;

    /// The commit that a name means. See [`GitRepository::resolve`].
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CommitId, Error>>;

    /// The version before this one. See [`GitRepository::previous`].
    fn previous<'a>(
        &'a self,
        version: &'a Version,
    ) -> BoxFuture<'a, Result<Option<Version>, Error>>;

    /// The repository as a resource that plans act on.
    fn world(&self) -> Box<dyn World + Send + '_>;

    /// Approves and runs a plan for this repository alone.
    fn execute<'a>(&'a self, plan: Plan, cx: &'a Context) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let world = self.world();
            Ok(cx.execute(plan, &*world).await?)
        }
        .boxed()
    }

    /// Fetches, and fast-forwards the default branch.
    fn safe_pull<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_pull(cx, PullOptions::default()).await?;
            self.execute(plan, cx).await
        }
        .boxed()
    }

    /// Merges a commit into the default branch.
    fn safe_merge<'a>(
        &'a self,
        cx: &'a Context,
        revision: &'a str,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_merge(cx, revision, MergeOptions::default()).await?;
            self.execute(plan, cx).await
        }
        .boxed()
    }

    /// Names a version for good.
    fn tag<'a>(
        &'a self,
        cx: &'a Context,
        name: &'a str,
        version: &'a str,
        options: TagOptions,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_tag(cx, name, version, options).await?;
            self.execute(plan, cx).await
        }
        .boxed()
    }

    /// Writes a version into a new folder.
    fn export<'a>(
        &'a self,
        cx: &'a Context,
        version: &'a str,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<Report, Error>> {
        async move {
            let plan = self.plan_export(version, folder).await?;
            self.execute(plan, cx).await
        }
        .boxed()
    }

    /// Ends every interrupted operation on this repository. Safe to call always.
    fn recover<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Recovery, Error>> {
        async move {
            let world = self.world();
            Ok(ops_core::recover(&*world, cx).await?)
        }
        .boxed()
    }
}

impl VersionControl for GitRepository {
    fn inspect(&self) -> BoxFuture<'_, Result<Inspection, Error>> {
        self.inspect().boxed()
    }

    fn plan_pull<'a>(
        &'a self,
        cx: &'a Context,
        options: PullOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        self.plan_pull(cx, options).boxed()
    }

    fn plan_export<'a>(
        &'a self,
        version: &'a str,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        self.plan_export(version, folder).boxed()
    }

    fn plan_merge<'a>(
        &'a self,
        cx: &'a Context,
        revision: &'a str,
        options: MergeOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        self.plan_merge(cx, revision, options).boxed()
    }

    fn plan_tag<'a>(
        &'a self,
        cx: &'a Context,
        name: &'a str,
        version: &'a str,
        options: TagOptions,
    ) -> BoxFuture<'a, Result<Plan, Error>> {
        self.plan_tag(cx, name, version, options).boxed()
    }

    fn versions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<VersionInfo>, Error>> {
        self.versions(limit).boxed()
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CommitId, Error>> {
        self.resolve(name).boxed()
    }

    fn previous<'a>(
        &'a self,
        version: &'a Version,
    ) -> BoxFuture<'a, Result<Option<Version>, Error>> {
        self.previous(version).boxed()
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_as_dyn_across_threads() {
        fn shared<T: Send + Sync + ?Sized>() {}
        shared::<dyn VersionControl>();
        shared::<GitRepository>();
        shared::<crate::MemoryRepository>();
        shared::<Error>();
    }
}
