//! The ways back: to a container that still runs, to one that is stopped, to an image.

use std::time::Instant;

use ops_deploy::Target;

use crate::images::docker;
use crate::stage::{Dock, v};

async fn two_versions(dock: &Dock, warm: bool) -> ops_deploy::DockerHost {
    let web = crate::dock::web(dock.path());
    let host = dock.builder().keep_previous_warm(warm).service(web).build().unwrap();
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
        host.deploy(&dock.cx(), &v(version)).await.unwrap();
    }
    host
}

#[tokio::test]
async fn a_warm_one_takes_the_traffic_at_once_and_stays_warm_when_it_fails() {
    let dock = Dock::new().await;
    let host = two_versions(&dock, true).await;
    let before = dock.running().await;
    assert_eq!(before.len(), 2, "{before:?}");
    let seen = host.observe().await.unwrap();
    assert_eq!(seen.current, Some(v("a000002")), "{seen:?}");
    let begun = Instant::now();
    let report = host.rollback(&dock.cx(), None).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(dock.public_version().await, "a000001");
    let start = report.steps.iter().find(|step| step.name == "start_container").unwrap();
    assert!(start.duration_ms < 500, "nothing is started: {report:?}");
    let after = dock.running().await;
    assert!(after.iter().any(|it| it.name == before[0].name), "{after:?}, took {took:?}");
}

#[tokio::test]
async fn a_stopped_one_that_does_not_come_up_is_stopped_again() {
    let dock = Dock::new().await;
    let host = two_versions(&dock, false).await;
    let kept = host.look().await.unwrap().containers[0].name.clone();
    // The guard lets nobody pass.
    let never = ops_core::probe::FnProbe::new("never", || async {
        ops_core::probe::Health::unhealthy("not today")
    });
    let gate = ops_deploy::Gate::default().deadline(std::time::Duration::from_secs(1));
    let web = crate::dock::web(dock.path());
    let strict = dock.builder().gate(gate).guard(never).service(web).build().unwrap();
    let error = strict.rollback(&dock.cx(), None).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!(dock.public_version().await, "a000002");
    let containers = host.look().await.unwrap().containers;
    assert!(containers.iter().any(|it| it.name == kept && !it.runs()), "{containers:?}");
    assert_eq!(containers.len(), 2);
    host.rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(dock.running().await[0].name, kept);
}

#[tokio::test]
async fn without_its_container_a_version_comes_back_from_its_image() {
    let dock = Dock::new().await;
    let host = two_versions(&dock, false).await;
    let kept = host.look().await.unwrap().containers[0].clone();
    docker().await.remove_container(&kept.name, None).await.unwrap();
    host.rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
    let running = dock.running().await;
    assert_ne!(running[0].name, kept.name);
    assert_eq!(running[0].image, kept.image);
    assert!(running[0].epoch > kept.epoch);
}

#[tokio::test]
async fn an_emergency_goes_back_to_what_no_gate_would_let_through() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    dock.image("a000001", "silent").await;
    dock.image("a000002", "healthy").await;
    host.deploy(&cx, &v("a000002")).await.unwrap();
    let plan = host.plan_emergency_rollback(Some(v("a000001"))).await.unwrap();
    assert_eq!(plan.facts["emergency"], "true");
    assert!(plan.to_string().contains("do not ask for its health"), "{plan}");
    host.emergency_rollback(&cx, Some(v("a000001"))).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
}
