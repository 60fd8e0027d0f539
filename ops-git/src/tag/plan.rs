//! Tags as plans, and going back to an older version with the newer one tagged.

use jiff::Timestamp;
use ops_core::{CommitId, Context, Plan};

use super::make::{Annotation, Tagging};
use super::name::TagName;
use crate::ahead_behind::{Apart, ahead_behind};
use crate::error::{Error, ErrorKind};
use crate::id::{BranchName, commit_id};
use crate::identity::{Identity, cleaned, seconds};
use crate::inspect::of_the_repository;
use crate::merge::{Landing, place, target};
use crate::refs;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::versions::{resolve, version_of};
use crate::worktree::SubmodulePolicy;

/// What a tag is, besides its name.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TagOptions {
    /// What it says. Default: nothing, and the tag is a mere name.
    pub message: Option<String>,
    /// Who tags. Default: the committer or user of the repository's configuration. Only a tag that
    /// says something needs one.
    pub tagger: Option<Identity>,
}

impl TagOptions {
    /// Says this.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Tags as this.
    pub fn tagger(mut self, tagger: Identity) -> Self {
        self.tagger = Some(tagger);
        self
    }
}

impl GitRepository {
    /// Plans a new tag.
    ///
    /// Facts of the plan: `tag`, `commit`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a name that is none, [`ErrorKind::Refused`] if the tag
    /// exists, [`ErrorKind::NoIdentity`] if it says something and nobody is named who tags, and
    /// those of [`resolve`](Self::resolve).
    pub async fn plan_tag(
        &self,
        cx: &Context,
        name: &str,
        version: &str,
        options: TagOptions,
    ) -> Result<Plan, Error> {
        let name: TagName = name.parse()?;
        let (this, version) = (self.clone(), version.to_owned());
        let now = seconds(cx.clock().now());
        self.blocking(move |repo| {
            let mut reasons: Vec<_> =
                of_the_repository(repo)?.into_iter().map(ops_core::Refusal::from).collect();
            let id = resolve(repo, &version)?;
            let annotation = annotation(repo, options, now)?;
            let tag = Tagging { name, commit: commit_id(id), annotation };
            reasons.extend(super::check(repo, &tag)?);
            if !reasons.is_empty() {
                return Err(Error::refused("nothing can be tagged here", reasons));
            }
            let plan = Plan::new("tag").version(version_of(repo, id)?);
            tagged(&this, plan.fact("tag", &tag.name).fact("commit", id), tag)
        })
        .await
    }

    /// Plans to move a branch back to an older version of it. Where it is now stays reachable by
    /// the tag `recovery/<time>-<version>`, which is part of the plan.
    ///
    /// A pull fast-forwards the branch again: stop pulling before going back.
    ///
    /// If the repository's work tree is on the branch, it moves along, under the rules of
    /// [`plan_checkout`](Self::plan_checkout).
    ///
    /// Facts of the plan: `branch`, `sha_before`, `sha_after`, `recovery_tag`, `commits`. If the
    /// branch is at the version already, the plan is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with everything in the way, [`ErrorKind::Diverged`] if the version is
    /// none of the branch's, and those of [`resolve`](Self::resolve).
    pub async fn plan_rollback(
        &self,
        cx: &Context,
        version: &str,
        branch: Option<BranchName>,
    ) -> Result<Plan, Error> {
        let (this, version) = (self.clone(), version.to_owned());
        let now = cx.clock().now();
        self.blocking(move |repo| rollback(&this, repo, &version, branch, now)).await
    }
}

fn annotation(
    repo: &gix::Repository,
    options: TagOptions,
    now: i64,
) -> Result<Option<Annotation>, Error> {
    let Some(message) = options.message else { return Ok(None) };
    let tagger = options.tagger.map_or_else(|| Identity::configured(repo), Ok)?;
    Ok(Some(Annotation { tagger, seconds: now, message: cleaned(&message)? }))
}

fn tagged(this: &GitRepository, plan: Plan, tag: Tagging) -> Result<Plan, Error> {
    let name = tag.name.clone();
    Ok(plan.change(this, &GitStep::Tag { tag })?.finisher(this, &GitStep::ReleaseTag { name })?)
}

fn rollback(
    this: &GitRepository,
    repo: &gix::Repository,
    version: &str,
    branch: Option<BranchName>,
    now: Timestamp,
) -> Result<Plan, Error> {
    let branch = target(repo, branch)?;
    let new = resolve(repo, version)?;
    let old = refs::tip(repo, &branch.full())?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("branch `{branch}` has no commit yet"))
            .remedy("pull first, or name another branch")
    })?;
    let plan = Plan::new("rollback")
        .version(version_of(repo, new)?)
        .fact("branch", &branch)
        .fact("sha_before", old)
        .fact("sha_after", new);
    if old == new {
        return Ok(plan.fact("result", "already there"));
    }
    let Apart { ahead, behind, .. } = ahead_behind(repo, old, new)?;
    if behind > 0 {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("{new} is no version of branch `{branch}`, which is at {old}"),
        )
        .remedy("choose one that `versions` lists"));
    }
    let (old, new): (CommitId, CommitId) = (commit_id(old), commit_id(new));
    let name = recovery_name(now, &old)?;
    let tag = Tagging { name: name.clone(), commit: old.clone(), annotation: None };
    let plan = tagged(this, plan.fact("recovery_tag", name).fact("commits", ahead), tag)?;
    let old = Some(old);
    let submodules = SubmodulePolicy::LeaveAlone;
    let landing = Landing { branch, old, new, merge: None, overwrite_ignored: false, submodules };
    place(this, repo, plan, landing)
}

/// `recovery/20261121T101500Z-1a2b3c4`.
fn recovery_name(now: Timestamp, commit: &CommitId) -> Result<TagName, Error> {
    format!("recovery/{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), commit.version()).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_tags_sort_by_time() {
        let commit: CommitId = "1a2b3c4".repeat(6)[..40].parse().unwrap();
        let name = recovery_name("2026-11-21T10:15:00.7Z".parse().unwrap(), &commit).unwrap();
        assert_eq!(name.as_str(), "recovery/20261121T101500Z-1a2b3c4");
    }
}
