//! Merging and tagging in memory.

use ops_core::Plan;

use super::{MemoryRepository, MemoryStep, main};
use crate::error::{Error, ErrorKind};
use crate::merge::{FastForward, MergeOptions};
use crate::tag::TagName;

impl MemoryRepository {
    /// History is linear here, so what is not part of `main` either comes after it or is refused.
    pub(super) fn merge_plan(&self, revision: &str, options: &MergeOptions) -> Result<Plan, Error> {
        let state = self.state();
        if let Some(branch) = options.branch.as_ref().filter(|branch| **branch != main()) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no branch `{branch}`"))
                .remedy("there is `main`"));
        }
        let (theirs, _) = state.find(revision)?;
        let ours = state.local.clone().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "branch `main` has no commit yet").remedy("pull first")
        })?;
        let plan = Plan::new("merge")
            .fact("branch", main())
            .fact("merged", revision)
            .fact("sha_before", &ours);
        if state.line(&ours).contains(&theirs) {
            return Ok(plan
                .version(ours.version())
                .fact("sha_after", &ours)
                .fact("result", "already up to date"));
        }
        if !state.line(&theirs).contains(&ours) || options.fast_forward == FastForward::Never {
            return Err(Error::refused(
                "a repository in memory has no merge commits",
                vec![ops_core::Refusal::new(
                    format!("{ours} is not followed by {theirs}"),
                    "test merges with a `GitRepository` in a temporary folder",
                )],
            ));
        }
        let plan =
            plan.version(theirs.version()).fact("sha_after", &theirs).fact("merge", "fast_forward");
        let step = MemoryStep::MoveBranch { old: Some(ours), new: theirs };
        Ok(plan.change(self, &step)?.finisher(self, &MemoryStep::ReleaseTip)?)
    }

    pub(super) fn tag_plan(&self, name: &str, version: &str) -> Result<Plan, Error> {
        let name: TagName = name.parse()?;
        let (commit, _) = self.state().find_local(version)?;
        if let Some(refusal) = self.state().tagged(&name) {
            return Err(Error::refused("nothing can be tagged here", vec![refusal]));
        }
        let plan =
            Plan::new("tag").version(commit.version()).fact("tag", &name).fact("commit", &commit);
        Ok(plan.change(self, &MemoryStep::Tag { name, commit })?)
    }
}
