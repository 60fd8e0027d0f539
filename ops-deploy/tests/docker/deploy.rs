//! The way of a version into service and back.

use std::time::Duration;

use ops_deploy::{ErrorKind, Gate, Target};

use crate::stage::{Dock, get, http, v};

#[tokio::test]
async fn a_version_comes_into_service_and_goes_back_to_the_kept_container() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    host.deploy(&cx, &v("a000001")).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
    let first = dock.running().await;
    assert_eq!(first.len(), 1, "{first:?}");

    let report = host.deploy(&cx, &v("a000002")).await.unwrap();
    assert_eq!(report.outcome.name(), "completed", "{report:?}");
    assert_eq!(dock.public_version().await, "a000002");
    let status = host.look().await.unwrap();
    assert_eq!(status.current().unwrap(), Some(&v("a000002")));
    let states: Vec<_> =
        status.containers.iter().map(|it| (it.version.as_str(), it.runs())).collect();
    assert_eq!(states, [("a000001", false), ("a000002", true)], "the old one is stopped and kept");
    assert!(dock.names().await.iter().all(|name| !name.contains("lock")), "the lock is given back");

    // In service and well: there is nothing to do.
    assert!(host.plan_deploy(&v("a000002")).await.unwrap().is_empty());

    let report = host.rollback(&cx, None).await.unwrap();
    assert_eq!(report.facts["to"], "a000001");
    assert_eq!(dock.public_version().await, "a000001");
    let again = dock.running().await;
    assert_eq!(again[0].name, first[0].name, "the container that was kept");
    let way: Vec<_> =
        host.look().await.unwrap().history.way_back().iter().map(ToString::to_string).collect();
    assert_eq!(way, ["a000001"]);
    assert_eq!(host.rollback(&cx, None).await.unwrap_err().kind(), ErrorKind::NoPrevious);
}

#[tokio::test]
async fn what_does_not_pass_the_gate_goes_back_by_itself() {
    let dock = Dock::new().await;
    let gate = Gate::default().deadline(Duration::from_secs(2));
    let host = dock.builder().gate(gate).service(crate::dock::web(dock.path())).build().unwrap();
    let cx = dock.cx();
    dock.image("a000001", "healthy").await;
    for (version, mode) in [("b000001", "silent"), ("b000002", "wrong"), ("b000003", "crash")] {
        dock.image(version, mode).await;
    }
    host.deploy(&cx, &v("a000001")).await.unwrap();
    let before = dock.names().await;
    for (version, says) in
        [("b000001", "status 503"), ("b000002", "0000000"), ("b000003", "something is missing")]
    {
        let error = host.deploy(&cx, &v(version)).await.unwrap_err();
        let report = error.report().unwrap();
        assert_eq!(report.outcome.name(), "rolled_back", "{error:?}");
        let told = format!("{error:?}");
        assert!(told.contains(says), "{version}: {told}");
        assert_eq!(dock.public_version().await, "a000001");
        assert_eq!(dock.names().await, before, "what came with {version} is gone");
    }
    assert_eq!(host.look().await.unwrap().history.entries().len(), 1);
}

#[tokio::test]
async fn no_request_is_lost() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    host.deploy(&cx, &v("a000001")).await.unwrap();
    let end = tokio_util::sync::CancellationToken::new();
    let load = (0..4).map(|n| {
        let (url, end) = (dock.url(if n == 0 { "/slow?ms=50" } else { "/" }), end.clone());
        tokio::spawn(async move {
            let (client, mut asked) = (http(), 0_u32);
            while !end.is_cancelled() {
                let answer = get(&client, &url).await;
                assert!(matches!(answer, Ok((200, ..))), "{answer:?}");
                asked += 1;
            }
            asked
        })
    });
    let load: Vec<_> = load.collect();
    host.deploy(&cx, &v("a000002")).await.unwrap();
    host.rollback(&cx, None).await.unwrap();
    end.cancel();
    let mut asked = 0;
    for one in load {
        asked += one.await.unwrap();
    }
    assert!(asked > 100, "{asked} requests");
}
