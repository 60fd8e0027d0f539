//! What every [`VersionControl`] keeps: one suite that runs against each of them. Its checks
//! panic, as tests do.

use std::path::Path;

use ops_core::{CommitId, Context, Outcome};

use crate::error::ErrorKind;
use crate::merge::MergeOptions;
use crate::pull::PullOptions;
use crate::tag::TagOptions;
use crate::version_control::VersionControl;

/// The other side of a pull, as a test sees it.
pub trait Upstream {
    /// Commits these files, and no others, to `main`.
    fn commit(&self, subject: &str, files: &[(&str, &str)]) -> CommitId;
    /// Sets `main` back to an older commit, as a forced push does.
    fn force(&self, to: &CommitId);
}

/// Runs the whole suite on an empty repository with an empty upstream. `scratch` is an empty folder
/// for exports; nothing of what happens may need an approval in `cx`.
pub async fn run(
    repository: &dyn VersionControl,
    upstream: &dyn Upstream,
    cx: &Context,
    scratch: &Path,
) {
    nothing_yet(repository, cx).await;
    let first = upstream.commit("First", &[("a.txt", "one\n"), ("b/c.txt", "two\n")]);
    pull(repository, cx, None, &first, 1).await;
    up_to_date(repository, cx, &first).await;
    let second = upstream.commit("Second", &[("a.txt", "three\n")]);
    pull(repository, cx, Some(&first), &second, 1).await;
    names(repository, &first, &second).await;
    exports(repository, cx, scratch, &first, &second).await;

    tags(repository, cx, &first, &second).await;
    merges(repository, upstream, cx, &second).await;
    let second = repository.resolve("main").await.expect("main");

    upstream.force(&first);
    let error = repository.safe_pull(cx).await.expect_err("upstream went back");
    assert_eq!(error.kind(), ErrorKind::Diverged);
    let text = error.to_string();
    assert!(text.contains(first.as_str()) && text.contains(second.as_str()), "{text}");
    assert_eq!(repository.resolve("main").await.expect("main"), second);

    let recovery = repository.recover(cx).await.expect("there is nothing to recover");
    assert!(recovery.reports.is_empty());
}

async fn nothing_yet(repository: &dyn VersionControl, cx: &Context) {
    assert_eq!(repository.inspect().await.expect("inspection").head, None);
    assert!(repository.versions(10).await.expect("versions").is_empty());
    let error = repository.safe_pull(cx).await.expect_err("upstream is empty");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = repository.resolve("main").await.expect_err("there is no branch");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

async fn pull(
    repository: &dyn VersionControl,
    cx: &Context,
    before: Option<&CommitId>,
    after: &CommitId,
    commits: usize,
) {
    let plan = repository.plan_pull(cx, PullOptions::default()).await.expect("a plan");
    assert!(!plan.is_empty());
    assert_eq!(plan.facts.get("sha_before").map(String::as_str), before.map(CommitId::as_str));
    assert_eq!(plan.facts["sha_after"], after.as_str());
    assert_eq!(plan.facts["commits"], commits.to_string());
    assert_eq!(plan.version, Some(after.version()));
    let now = repository.inspect().await.expect("inspection").head;
    assert_eq!(now.as_ref(), before, "planning moves no branch");

    let stale = plan.clone();
    let report = repository.execute(plan, cx).await.expect("a pull");
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(repository.inspect().await.expect("inspection").head.as_ref(), Some(after));

    let error = repository.execute(stale, cx).await.expect_err("the plan's time has passed");
    let outcome = &error.report().expect("a report").outcome;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
}

async fn up_to_date(repository: &dyn VersionControl, cx: &Context, at: &CommitId) {
    let plan = repository.plan_pull(cx, PullOptions::default()).await.expect("a plan");
    assert!(plan.is_empty());
    let report = repository.safe_pull(cx).await.expect("a pull of nothing");
    assert_eq!(report.facts["result"], "already up to date");
    assert_eq!(report.facts["sha_after"], at.as_str());
    let branch = "no-such-branch".parse().expect("it is a branch's name");
    let options = PullOptions::default().branch(branch);
    let error = repository.plan_pull(cx, options).await.expect_err("there is no such branch");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

async fn names(repository: &dyn VersionControl, first: &CommitId, second: &CommitId) {
    let versions = repository.versions(10).await.expect("versions");
    let commits: Vec<_> = versions.iter().map(|version| &version.commit).collect();
    assert_eq!(commits, [second, first]);
    assert_eq!(versions[0].subject, "Second");
    assert_eq!(repository.versions(1).await.expect("versions").len(), 1);
    for name in ["main", "HEAD", second.as_str(), &second.as_str()[..7]] {
        assert_eq!(repository.resolve(name).await.expect(name), *second);
    }
    for name in ["", "no-such-name", &"0".repeat(40)] {
        let error = repository.resolve(name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let before = repository.previous(&second.version()).await.expect("the one before");
    assert_eq!(before, Some(first.version()));
    assert_eq!(repository.previous(&first.version()).await.expect("none before"), None);
}

async fn tags(repository: &dyn VersionControl, cx: &Context, first: &CommitId, second: &CommitId) {
    let mere = TagOptions::default;
    let plan = repository.plan_tag(cx, "v1", first.as_str(), mere()).await.expect("a plan");
    let error = repository.resolve("v1").await.expect_err("planning makes no tag");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let stale = plan.clone();
    repository.execute(plan, cx).await.expect("a tag");
    assert_eq!(repository.resolve("v1").await.expect("the tag"), *first);
    let error = repository.execute(stale, cx).await.expect_err("the tag is there by now");
    let outcome = &error.report().expect("a report").outcome;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    let again = repository.tag(cx, "v1", second.as_str(), mere()).await;
    assert_eq!(again.expect_err("a tag does not move").kind(), ErrorKind::Refused);
    assert_eq!(repository.versions(2).await.expect("versions")[1].tags, ["v1"]);
    let bad = repository.tag(cx, "a..b", "main", mere()).await;
    assert_eq!(bad.expect_err("it is no name").kind(), ErrorKind::InvalidInput);
}

async fn merges(
    repository: &dyn VersionControl,
    upstream: &dyn Upstream,
    cx: &Context,
    second: &CommitId,
) {
    let report = repository.safe_merge(cx, "v1").await.expect("a merge of nothing");
    assert_eq!(report.facts["result"], "already up to date");
    let error = repository.safe_merge(cx, "no-such-name").await.expect_err("it names nothing");
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let third = upstream.commit("Third", &[("a.txt", "four\n")]);
    // The pull's plan has fetched it, and nobody runs that plan.
    let pull = repository.plan_pull(cx, PullOptions::default()).await.expect("a plan");
    assert_eq!(pull.facts["sha_after"], third.as_str());
    let merge = repository.plan_merge(cx, "origin/main", MergeOptions::default()).await;
    let merge = merge.expect("a plan");
    assert_eq!(
        (&*merge.facts["merge"], &*merge.facts["sha_before"]),
        ("fast_forward", second.as_str())
    );
    repository.execute(merge, cx).await.expect("a merge");
    assert_eq!(repository.resolve("main").await.expect("main"), third);
}

async fn exports(
    repository: &dyn VersionControl,
    cx: &Context,
    scratch: &Path,
    first: &CommitId,
    second: &CommitId,
) {
    let read = |path: &str| std::fs::read_to_string(scratch.join(path)).ok();
    repository.export(cx, first.as_str(), &scratch.join("one")).await.expect("an export");
    assert_eq!(read("one/a.txt").as_deref(), Some("one\n"));
    assert_eq!(read("one/b/c.txt").as_deref(), Some("two\n"));
    repository.export(cx, "main", &scratch.join("new/two")).await.expect("an export");
    assert_eq!(read("new/two/a.txt").as_deref(), Some("three\n"));
    assert_eq!(read("new/two/b/c.txt"), None);

    let again = repository.plan_export(first.as_str(), &scratch.join("one")).await;
    assert!(again.expect("it is there already").is_empty());
    let error = repository.export(cx, second.as_str(), &scratch.join("one")).await;
    assert_eq!(error.expect_err("another version is there").kind(), ErrorKind::Foreign);
    assert_eq!(read("one/a.txt").as_deref(), Some("one\n"));

    let plan = repository.plan_export("main", &scratch.join("three")).await.expect("a plan");
    let undone = plan.clone().then(plan.clone());
    repository.execute(undone, cx).await.expect("the same export twice is one");
    let error = repository.execute(plan, cx).await.expect_err("the folder is there by now");
    let outcome = &error.report().expect("a report").outcome;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
}
