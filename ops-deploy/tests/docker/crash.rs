//! The deployer is killed at its places, and so is its recovery.

use std::path::Path;
use std::sync::atomic::Ordering;

use ops_core::{Context, Version};
use ops_deploy::Target;
use tokio::runtime::Runtime;

use crate::images::{import, remove_all};
use crate::killed::{Scene, crash_test, program};

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
