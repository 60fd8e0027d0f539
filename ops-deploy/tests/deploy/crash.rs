//! The deployer is killed at each place, and so is its recovery.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use ops_core::{Context, Version};
use ops_deploy::Target;
use ops_deploy::release::{Instance, Status};
use tokio::runtime::Runtime;

use crate::killed::{Scene, crash_test, program, public_hears};
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

/// What must be one: the public answer, `current`, the history, the traffic, and the processes.
async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
    let say = |error: ops_deploy::Error| error.to_string();
    let site = crate::site::builder(dir, Path::new(SERVICE)).build().map_err(say)?;
    let status: Status = site.look().await.map_err(say)?;
    let current = status.current().map_err(say)?.cloned();
    let latest = status.history.as_ref().and_then(|history| history.latest().cloned());
    if latest != current {
        return Err(format!("{current:?} in service, {latest:?} in the history"));
    }
    let running: Vec<_> = status.instances.iter().filter(|instance| instance.runs()).collect();
    let serving = status.in_service();
    if running.iter().copied().ne(serving) {
        return Err(format!("{running:?} run, {serving:?} serves"));
    }
    if serving.map(|instance: &Instance| &instance.version) != current.as_ref() {
        return Err(format!("{serving:?} serves, {current:?} is current"));
    }
    let strays = strays(dir, &running);
    if !strays.is_empty() {
        return Err(format!("stray processes {strays:?} besides {running:?}"));
    }
    public_hears(dir, current.as_ref()).await?;
    if let Some(version) = &current
        && std::fs::read_link(dir.join("site/current")).ok()
            != Some(Path::new("releases").join(version.as_str()))
    {
        return Err("`current` points elsewhere".into());
    }
    let leaving = std::fs::read_dir(dir.join("site/releases")).map_err(|e| e.to_string())?;
    let leaving =
        leaving.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    let old_is_there = dir.join("site/releases/v0/mode").is_file();
    let old_should_go = status.history.is_some_and(|history| {
        let versions: Vec<_> = history.entries().iter().map(|e| e.version.as_str()).collect();
        versions == ["v0", "v1", "v2"]
    });
    if leaving || old_is_there == old_should_go {
        return Err(format!("the old release is there: {old_is_there}, or half of it: {leaving}"));
    }
    Ok(current)
}

/// The processes that run in a release of this site, but for those that should: found without any
/// of the records that the deployer keeps.
fn strays(dir: &Path, running: &[&Instance]) -> Vec<u32> {
    let known: BTreeSet<u32> = running
        .iter()
        .filter_map(|instance| match instance.liveness {
            ops_deploy::service::Liveness::Running(Some(process)) => Some(process.pid),
            _ => None,
        })
        .collect();
    let releases = dir.join("site/releases").canonicalize().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&releases)) && !known.contains(pid)
        })
        .collect()
}

#[test]
fn a_deployer_killed_at_any_place_leaves_the_old_or_the_new() {
    let (test, asked) =
        crash_test::<Site>(&["v0", "v1"], program::<Site>("deploy", Some("v2")), "v2");
    let summary = test.recovery_every(13).run().unwrap();
    assert!(summary.old > 10 && summary.new > 5, "{summary}");
    let asked = asked.load(Ordering::Relaxed);
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
    let (test, _) = crash_test::<Site>(&[], program::<Site>("deploy", Some("v2")), "v2");
    let summary = test.every(3).recovery_every(13).run().unwrap();
    assert!(summary.old > 3 && summary.new > 1, "{summary}");
}

#[test]
fn a_failing_deployment_killed_at_any_place_leaves_the_old() {
    let (test, _) = crash_test::<Site>(&["v1"], program::<Site>("deploy", Some("v3")), "v3");
    let summary = test.operation_may_fail().every(2).recovery_every(9).run().unwrap();
    assert!(summary.old > 10 && summary.new == 0, "{summary}");
}

#[test]
fn a_rollback_killed_at_any_place_leaves_the_new_or_the_old() {
    let (test, _) = crash_test::<Site>(&["v1", "v2"], program::<Site>("rollback", None), "v1");
    let summary = test.every(2).recovery_every(17).run().unwrap();
    assert!(summary.old > 5 && summary.new > 3, "{summary}");
}
