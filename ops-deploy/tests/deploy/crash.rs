//! The deployer is killed at each place, and so is its recovery.

use std::path::Path;

use ops_core::{Context, Version};
use ops_deploy::Target;
use tokio::runtime::Runtime;

use crate::killed::{Scene, crash_test, in_shards, program};
use crate::stage::{PROGRAM, SERVICE, end_all, release};

/// A release directory with four releases, of which the last does not start.
struct Site;

impl Scene for Site {
    const PROGRAM: &str = PROGRAM;

    async fn prepare(dir: &Path) {
        for (version, mode) in
            [("v0", "healthy"), ("v1", "healthy"), ("v2", "healthy"), ("v3", "crash")]
        {
            release(dir, version, mode);
        }
    }

    fn target(dir: &Path) -> Box<dyn Target> {
        Box::new(crate::site::builder(dir, Path::new(SERVICE)).build().unwrap())
    }

    fn context(dir: &Path) -> Context {
        crate::site::context(dir)
    }

    async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
        agreement(dir).await
    }

    fn clear(dir: &Path, _: &Runtime) {
        end_all(dir);
    }
}

/// What a site agrees upon, and that the oldest release is gone when v2 has come, and not before.
async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
    let current = crate::site_state::agreement(dir, Path::new(SERVICE)).await?;
    let old_is_there = dir.join("site/releases/v0/mode").is_file();
    let history = crate::site_state::status(dir, Path::new(SERVICE)).await?.history;
    let old_should_go = history.is_some_and(|history| {
        let versions: Vec<_> = history.entries().iter().map(|e| e.version.as_str()).collect();
        versions == ["v0", "v1", "v2"]
    });
    if old_is_there == old_should_go {
        return Err(format!("the old release is there: {old_is_there}"));
    }
    Ok(current)
}

#[test]
fn a_deployer_killed_at_any_place_leaves_the_old_or_the_new() {
    // Most of the time is waiting, so that several can wait at once.
    let (summary, asked) = in_shards(5, 1, || {
        let deploy = program::<Site>("deploy", Some("v2"));
        let (test, asked) = crash_test::<Site>(&["v0", "v1"], deploy, "v2");
        (test.recovery_every(13), asked)
    });
    assert!(summary.old > 10 && summary.new > 5, "{summary}");
    assert!(asked > 10 * summary.kills, "{asked} requests: {summary}");
    for place in
        ["service: locked", "service: spawned", "service: recorded", "release: traffic switched"]
    {
        let hit = summary.places.keys().any(|name| name.contains(place));
        assert!(hit, "never killed at `{place}`: {:?}", summary.places);
    }
}

#[test]
fn a_first_deployment_killed_at_any_place_leaves_nothing_or_all_of_it() {
    let (summary, _) = in_shards(3, 3, || {
        let deploy = program::<Site>("deploy", Some("v2"));
        let (test, asked) = crash_test::<Site>(&[], deploy, "v2");
        (test.recovery_every(13), asked)
    });
    assert!(summary.old > 3 && summary.new > 1, "{summary}");
}

#[test]
fn a_failing_deployment_killed_at_any_place_leaves_the_old() {
    let (summary, _) = in_shards(3, 2, || {
        let deploy = program::<Site>("deploy", Some("v3"));
        let (test, asked) = crash_test::<Site>(&["v1"], deploy, "v3");
        (test.operation_may_fail().recovery_every(9), asked)
    });
    assert!(summary.old > 10 && summary.new == 0, "{summary}");
}

#[test]
fn a_rollback_killed_at_any_place_leaves_the_new_or_the_old() {
    let (summary, _) = in_shards(3, 2, || {
        let rollback = program::<Site>("rollback", None);
        let (test, asked) = crash_test::<Site>(&["v1", "v2"], rollback, "v1");
        (test.recovery_every(17), asked)
    });
    assert!(summary.old > 5 && summary.new > 3, "{summary}");
}
