//! The deployer is killed at its places, and so is its recovery.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ops_core::crash::{CrashTest, Summary};
use ops_core::{Context, Version};
use ops_deploy::{Error, Swarm, Target};
use tokio::runtime::Runtime;

use crate::asking::{get, http, until};
use crate::images::{docker, import, remove_all};
use crate::killed::{Scene, crash_test, in_shards, program};

/// An application of two versions.
struct Docked;

impl Scene for Docked {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-deploy-test-docker");

    async fn prepare(dir: &Path) {
        crate::images::new_application(dir);
        let repository = format!("{}/web", crate::dock::application(dir));
        for version in ["a000001", "a000002"] {
            import(&format!("{repository}:{version}"), "healthy", &[]).await;
        }
    }

    fn target(dir: &Path) -> Box<dyn Target> {
        Box::new(crate::dock_state::host(dir).unwrap())
    }

    fn context(dir: &Path) -> Context {
        crate::dock::context(dir)
    }

    async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
        crate::dock_state::agreement(dir).await
    }

    fn clear(dir: &Path, runtime: &Runtime) {
        if dir.join("app").exists() {
            runtime.block_on(remove_all(&crate::dock::application(dir)));
        }
    }
}

/// Every n-th place; `OPS_CRASH_EVERY=1` goes through all of them.
fn every(n: u64) -> u64 {
    std::env::var("OPS_CRASH_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(n)
}

#[test]
fn a_deployer_killed_at_any_place_leaves_the_old_or_the_new() {
    let (test, asked) =
        crash_test::<Docked>(&["a000001"], program::<Docked>("deploy", Some("a000002")), "a000002");
    let summary = test.every(every(7)).recovery_every(40).run().unwrap();
    assert!(summary.old > 2 && summary.new > 2, "{summary}");
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 10 * summary.kills, "{asked} requests: {summary}");
}

#[test]
fn a_rollback_killed_at_any_place_leaves_the_new_or_the_old() {
    let (test, _) = crash_test::<Docked>(
        &["a000001", "a000002"],
        program::<Docked>("rollback", None),
        "a000001",
    );
    let summary = test.every(every(9)).recovery_every(40).run().unwrap();
    assert!(summary.old > 2 && summary.new > 2, "{summary}");
}

/// A Swarm's application of two versions. Its tasks share a port of the host one after the other, so
/// the public does hear silence.
struct Swarmed;

impl Scene for Swarmed {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-deploy-test-docker");
    const UNDER_LOAD: bool = false;

    async fn prepare(dir: &Path) {
        crate::swarm::prepare(dir).await;
        let repository = format!("{}/web", crate::dock::application(dir));
        let mut first = String::new();
        for version in ["a000002", "a000001"] {
            first = import(&format!("{repository}:{version}"), "patient", &[]).await;
        }
        crate::swarm::create(dir, "web", &first).await;
    }

    fn target(dir: &Path) -> Box<dyn Target> {
        Box::new(swarm(dir).unwrap())
    }

    fn context(dir: &Path) -> Context {
        crate::dock::context(dir)
    }

    async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
        let say = |error: Error| format!("{error:?}");
        let swarm = swarm(dir).map_err(say)?;
        let status = swarm.look().await.map_err(say)?;
        let current = status.current().map_err(say)?.cloned();
        let latest = status.history.latest().cloned();
        if latest != current {
            return Err(format!("{current:?} in service, {latest:?} in the history"));
        }
        let versions: Vec<_> = status.tasks.iter().map(|task| task.version.clone()).collect();
        if versions != [current.clone()] {
            return Err(format!("{versions:?} run, {current:?} is in service"));
        }
        let lock = format!("{}.ops-lock", crate::dock::application(dir));
        if docker().await.inspect_config(&lock).await.is_ok() {
            return Err("the lock is still there".into());
        }
        let port = std::fs::read_to_string(dir.join("port")).map_err(|e| e.to_string())?;
        // It runs, and may wait for its port yet: nobody has it now.
        let (url, mut heard) = (format!("http://127.0.0.1:{port}/health"), None);
        until(async || {
            heard = Some(get(&http(), &url).await?);
            Ok(())
        })
        .await;
        let (code, says, _) = heard.unwrap();
        if (code, Some(says.as_str())) != (200, current.as_ref().map(Version::as_str)) {
            return Err(format!("the public hears {code} {says}, {current:?} is in service"));
        }
        Ok(current)
    }

    fn clear(dir: &Path, runtime: &Runtime) {
        if dir.join("app").exists() {
            runtime.block_on(crate::swarm::clear(&crate::dock::application(dir)));
        }
    }
}

fn swarm(dir: &Path) -> Result<Swarm, Error> {
    let swarm = crate::swarmed::builder(dir, crate::dock::engine(), "host");
    swarm.service(crate::swarmed::web(dir)).build()
}

#[test]
fn a_deployer_of_a_swarm_killed_at_any_place_leaves_the_old_or_the_new() {
    let summary = swarm_killed(17, || {
        let deploy = program::<Swarmed>("deploy", Some("a000002"));
        crash_test::<Swarmed>(&["a000001"], deploy, "a000002")
    });
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn a_rollback_of_a_swarm_killed_at_any_place_leaves_the_new_or_the_old() {
    let summary = swarm_killed(23, || {
        let rollback = program::<Swarmed>("rollback", None);
        crash_test::<Swarmed>(&["a000001", "a000002"], rollback, "a000001")
    });
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

/// Every n-th place; with `OPS_CRASH_EVERY=1` all of them, with several threads, and every 40th of
/// each recovery.
#[expect(clippy::print_stdout, reason = "the figures are for whoever asked for every place")]
fn swarm_killed(n: u64, test: impl Fn() -> (CrashTest, Arc<AtomicU64>) + Sync) -> Summary {
    let summary = match every(n) {
        1 => {
            in_shards(4, 1, || {
                let (test, asked) = test();
                (test.recovery_every(40), asked)
            })
            .0
        }
        n => test().0.every(n).recovery_every(120).run().unwrap(),
    };
    println!("{summary}");
    summary
}
