//! An engine that fails: answers are lost, it is slow, deaf, or gone.

use std::time::{Duration, Instant};

use ops_core::{Context, Environment};
use ops_deploy::{Bake, DockerHost, ErrorKind, Quiet, Target};

use crate::fault_socket::{Fault, FaultSocket};
use crate::stage::{Dock, until, v};

const VERSIONS: [&str; 2] = ["a000001", "a000002"];

/// An application on an engine behind the socket, with the first version in service.
async fn behind() -> (Dock, FaultSocket, DockerHost, Context) {
    let dock = Dock::new().await;
    for version in VERSIONS {
        dock.image(version, "healthy").await;
    }
    let socket = FaultSocket::new(&dock);
    let host = crate::dock::bare(dock.path(), socket.address.clone())
        .engine_deadline(Duration::from_secs(2))
        .keep(9)
        .service(crate::dock::web(dock.path()))
        .build()
        .unwrap();
    let cx = Context::builder(dock.path().join("state"))
        .environment(Environment::Development)
        .undo_budget(Duration::from_secs(1))
        .finish_budget(Duration::from_secs(1))
        .build();
    host.deploy(&cx, &v(VERSIONS[0])).await.unwrap();
    (dock, socket, host, cx)
}

/// Recovers until everything agrees upon one version, and answers it.
async fn settled(dock: &Dock, host: &DockerHost, cx: &Context) -> String {
    let mut found = String::new();
    until(async || {
        let world = host.world();
        ops_core::recover(&*world, cx).await.map_err(|error| format!("{error:?}"))?;
        let agreed = crate::dock_state::agreement(dock.path()).await?;
        found = agreed.ok_or("nothing is in service")?.to_string();
        Ok(())
    })
    .await;
    found
}

/// Every n-th call; `OPS_CRASH_EVERY=1` goes through all of them.
fn every(n: usize) -> usize {
    std::env::var("OPS_CRASH_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(n)
}

#[tokio::test]
async fn a_call_that_is_cut_off_leaves_the_old_or_the_new() {
    let (dock, socket, host, cx) = behind().await;
    let plan = host.plan_deploy(&v(VERSIONS[1])).await.unwrap();
    socket.set(Fault::None);
    cx.execute(plan, &*host.world()).await.unwrap();
    let calls = socket.requests().len();
    let (mut current, mut failed) = (1, 0);
    for at in (1..=calls).step_by(every(9)) {
        for fault in [Fault::CutBefore(at), Fault::CutAnswer(at)] {
            let to = v(VERSIONS[1 - current]);
            let plan = host.plan_deploy(&to).await.unwrap();
            socket.set(fault);
            let ended = cx.execute(plan, &*host.world()).await;
            socket.set(Fault::None);
            failed += usize::from(ended.is_err());
            let found = settled(&dock, &host, &cx).await;
            assert!(VERSIONS.contains(&found.as_str()), "{fault:?}: {found}, {ended:?}");
            if let Ok(report) = &ended {
                assert_eq!(found, to.as_str(), "{fault:?}: {report:?}");
            }
            current = usize::from(found == VERSIONS[1]);
        }
    }
    assert!(calls > 20 && failed > 1, "{calls} calls, {failed} failed");
}

#[tokio::test]
async fn an_engine_that_is_gone_takes_nothing_along_and_is_recovered_on_its_return() {
    let (dock, socket, host, cx) = behind().await;
    // As many calls as it takes until something was changed that the engine alone can put back.
    let mut looks = 8;
    loop {
        let plan = host.plan_deploy(&v(VERSIONS[1])).await.unwrap();
        socket.set(Fault::GoneFrom(looks));
        let error = cx.execute(plan, &*host.world()).await.unwrap_err();
        socket.set(Fault::None);
        settled(&dock, &host, &cx).await;
        if error.report().expect("a report").outcome.name() == "needs_person" {
            break;
        }
        looks += 2;
        assert!(looks < 60, "{error:?}");
    }
    for (fault, deadline) in [(Fault::GoneFrom(looks), 60), (Fault::DeafFrom(looks), 60)] {
        let plan = host.plan_deploy(&v(VERSIONS[1])).await.unwrap();
        socket.set(fault);
        let begun = Instant::now();
        let error = cx.execute(plan, &*host.world()).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(deadline), "{fault:?}: {error:?}");
        let report = error.report().expect("a report");
        assert_eq!(report.outcome.name(), "needs_person", "{fault:?}: {error:?}");
        assert_eq!(dock.public_version().await, VERSIONS[0], "{fault:?}");
        let refused = host.plan_deploy(&v(VERSIONS[1])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Engine, "{refused:?}");
        socket.set(Fault::None);
        assert_eq!(settled(&dock, &host, &cx).await, VERSIONS[0], "{fault:?}");
    }
}

#[tokio::test]
async fn a_slow_engine_is_waited_for() {
    let (dock, socket, host, cx) = behind().await;
    socket.set(Fault::Slow(Duration::from_millis(60)));
    host.deploy(&cx, &v(VERSIONS[1])).await.unwrap();
    assert_eq!(dock.public_version().await, VERSIONS[1]);
}

#[tokio::test]
async fn one_answer_of_the_engine_that_is_lost_ends_no_watch() {
    let (dock, socket, _, cx) = behind().await;
    let bake = Bake::lasting(Duration::from_secs(1))
        .interval(Duration::from_millis(100))
        .hysteresis(3, 2)
        .latency(Duration::from_secs(5))
        .quiet(Quiet::Pass);
    let watched = |bake: Bake| {
        crate::dock::bare(dock.path(), socket.address.clone())
            .keep(9)
            .service(crate::dock::web(dock.path()))
            .bake(bake)
            .build()
            .unwrap()
    };
    socket.set(Fault::CutFirst("/stats"));
    watched(bake.clone()).deploy(&cx, &v(VERSIONS[1])).await.unwrap();
    assert!(socket.requests().iter().filter(|it| it.contains("/stats")).count() > 1);
    assert_eq!(dock.public_version().await, VERSIONS[1]);
    // Without any of them there is nothing to judge by.
    socket.set(Fault::Absent("/stats"));
    let error = watched(bake).rollback(&cx, None).await.unwrap_err();
    assert!(format!("{error:?}").contains("the load of"), "{error:?}");
    assert_eq!(dock.public_version().await, VERSIONS[1]);
}
