use std::sync::Arc;

use ops_core::Outcome;
use ops_core::probe::{FnProbe, Health};
use ops_deploy::{ErrorKind, Target};

use crate::stage::{Stage, get, http, v};

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_asks_for_no_health_and_keeps_its_journal() {
    let stage = Stage::new().await;
    let cx = stage.cx();
    for version in ["v1", "v2"] {
        stage.release(version, "healthy");
        stage.builder().keep(9).build().unwrap().deploy(&cx, &v(version)).await.unwrap();
    }
    // What broke v2 breaks the health of v1, too, and the guard is not well either.
    stage.release("v1", "silent");
    let guard = FnProbe::new("orders", || async { Health::unhealthy("down") });
    let site = stage.builder().keep(9).guard(Arc::new(guard)).build().unwrap();
    let plan = site.plan_emergency_rollback(None).await.unwrap();
    assert_eq!(plan.facts["emergency"], "true");
    let text = plan.to_string();
    assert!(
        text.contains("see that v1 takes connections, and do not ask for its health"),
        "{text}"
    );
    assert!(!text.contains("public address") && !text.contains("orders"), "{text}");

    let report = site.emergency_rollback(&cx, None).await.unwrap();
    assert_eq!((report.outcome, report.event.as_str()), (Outcome::Completed, "rollback_success"));
    assert_eq!(report.facts["emergency"], "true");
    assert_eq!(get(&http(), &stage.url("/")).await.unwrap(), (200, "v1".into(), "v1".into()));
    assert_eq!(stage.link().unwrap(), "releases/v1");
    let closed = std::fs::read_dir(stage.path().join("state/journals/closed"));
    assert_eq!(closed.unwrap().count(), 3, "each operation has its journal");
    let plain = site.plan_rollback(Some(v("v2"))).await.unwrap();
    assert!(!plain.facts.contains_key("emergency"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_does_not_switch_to_what_does_not_even_start() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.builder().keep(9).build().unwrap(), stage.cx());
    for version in ["v1", "v2"] {
        stage.release(version, "healthy");
        site.deploy(&cx, &v(version)).await.unwrap();
    }
    stage.release("v1", "crash");
    let before = stage.running().await;
    let error = site.emergency_rollback(&cx, None).await.unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{report:?}");
    assert_eq!(report.facts["emergency"], "true");
    assert_eq!(stage.running().await, before);
    assert_eq!(get(&http(), &stage.url("/")).await.unwrap().1, "v2");
    let missing = site.plan_emergency_rollback(Some(v("v9"))).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::IncompleteVersion);
}
