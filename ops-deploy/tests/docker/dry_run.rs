//! Planning only reads: every request to the engine is heard by a socket in between.

use ops_deploy::Target;

use crate::fault_socket::FaultSocket;
use crate::stage::{Dock, v};

#[tokio::test]
async fn a_dry_run_issues_only_reads() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002", "a000003"] {
        dock.image(version, "healthy").await;
    }
    let engine = FaultSocket::new(&dock);
    let host = crate::dock::bare(dock.path(), engine.address.clone())
        .service(crate::dock::web(dock.path()))
        .build()
        .unwrap();
    let reads = |what: &str| {
        let asked = engine.requests();
        assert!(asked.len() >= 2, "{what}: {asked:?}");
        for line in &asked {
            assert!(line.starts_with("GET "), "{what} issued `{line}`");
        }
    };
    let first = host.plan_deploy(&v("a000001")).await.unwrap();
    assert!(!first.is_empty() && first.to_string().contains("image of web: sha256:"), "{first}");
    reads("the plan of a first deployment");
    host.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    host.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    let asked = engine.requests();
    assert!(asked.iter().any(|line| line.starts_with("POST ")), "the socket hears: {asked:?}");

    let _ = host.plan_deploy(&v("a000003")).await.unwrap();
    reads("the plan of a deployment");
    let _ = host.plan_rollback(None).await.unwrap();
    reads("the plan of a rollback");
    let _ = host.plan_emergency_rollback(None).await.unwrap();
    reads("the plan of an emergency");
    let _ = host.plan_cleanup(&dock.cx()).await.unwrap();
    reads("the plan of a clean-up");
    let _ = host.observe().await.unwrap();
    reads("a look");
    assert_eq!(dock.public_version().await, "a000002");
}
