use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ops_core::Outcome;
use ops_core::probe::{FnProbe, Health, Probe, TcpProbe};
use ops_deploy::{ErrorKind, Gate, ReleaseDirectory, Target};

use crate::stage::{Stage, v};

fn gate() -> Gate {
    Gate::default()
        .consecutive(3)
        .interval(Duration::from_millis(5))
        .deadline(Duration::from_secs(5))
}

/// A guard that answers by the number of the question, and how often it was asked.
fn guard(answer: fn(u32) -> Health) -> (Arc<dyn Probe>, Arc<AtomicU32>) {
    let asked: Arc<AtomicU32> = Arc::default();
    let count = Arc::clone(&asked);
    let probe = FnProbe::new("orders", move || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move { answer(n) }
    });
    (Arc::new(probe), asked)
}

fn guarded(stage: &Stage, probe: &Arc<dyn Probe>) -> ReleaseDirectory {
    stage.builder().gate(gate()).guard(Arc::clone(probe)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_healthy_guards_several_times_in_a_row_let_a_version_through() {
    // How often it is asked at least: to tell where somebody panicked may take its time.
    for (answer, passes, least) in [
        ((|_| Health::Healthy) as fn(u32) -> Health, true, 3),
        (|n| if n == 2 { Health::unhealthy("late") } else { Health::Healthy }, true, 3),
        (|n| if n % 3 == 2 { Health::unknown("no data") } else { Health::Healthy }, false, 3),
        (|_| Health::unknown("no data"), false, 3),
        (|_| panic!("a guard that is broken"), false, 1),
    ] {
        let stage = Stage::without_proxy();
        stage.release("v1", "healthy");
        let (probe, asked) = guard(answer);
        let done = guarded(&stage, &probe).deploy(&stage.cx(), &v("v1")).await;
        assert_eq!(done.is_ok(), passes, "{done:?}");
        assert!(asked.load(Ordering::Relaxed) >= least);
        assert_eq!(stage.running().await.len(), usize::from(passes));
        if let Err(error) = done {
            let told = format!("{:?}", error.report());
            assert!(told.contains("orders is unknown"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_alone_lets_no_wrong_version_through() {
    let stage = Stage::without_proxy();
    stage.release("v1", "wrong");
    let (probe, _) = guard(|_| Health::Healthy);
    let error = guarded(&stage, &probe).deploy(&stage.cx(), &v("v1")).await.unwrap_err();
    let told = format!("{:?}", error.report());
    assert!(told.contains("the new instance is unhealthy"), "{told}");
    assert_eq!(stage.running().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_missing_is_refused_by_name() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    let (probe, _) = guard(|_| Health::Healthy);
    let plan = guarded(&stage, &probe).plan_deploy(&v("v1")).await.unwrap();
    assert!(plan.to_string().contains("answers as v1, and that orders is well"), "{plan}");

    let without = stage.site();
    let error = stage.cx().execute(plan, &&without).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("the gate lacks the guards orders (known: none)"), "{told}");
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::Refused { .. }), "{report:?}");
    assert_eq!(stage.running().await, []);

    let error = stage.builder().guard(Arc::clone(&probe)).guard(probe).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("the guard `orders` has no name of its own"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_health_and_a_port_guard_a_gate() {
    let (other, stage) = (Stage::new().await, Stage::without_proxy());
    for stage in [&other, &stage] {
        stage.release("v1", "healthy");
    }
    let health: Arc<dyn Probe> = Arc::new(other.site().health());
    let site = guarded(&stage, &health);
    site.deploy(&stage.cx(), &v("v1")).await.unwrap_err();
    other.site().deploy(&other.cx(), &v("v1")).await.unwrap();
    assert_eq!(health.check().await, Health::Healthy);
    let port = TcpProbe::new(other.running().await[0].address.to_string());
    let site = stage.builder().gate(gate()).guard(health).guard(Arc::new(port)).build().unwrap();
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_that_cannot_be_told_is_unknown() {
    let stage = Stage::new().await;
    let site = stage.site();
    assert!(matches!(site.health().check().await, Health::Unhealthy { .. }), "nothing is deployed");
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    ops_core::fs::symlink_swap(&stage.path().join("site/current"), "releases/v2".as_ref()).unwrap();
    assert!(matches!(site.health().check().await, Health::Unknown { .. }));
}
