//! What goes wrong around containers, one thing at a time: what each costs, and who has to help.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures::future::{BoxFuture, FutureExt as _};
use ops_core::clock::ManualClock;
use ops_core::journal::{FailingIo, Fault};
use ops_core::probe::{FnProbe, Health};
use ops_core::reporter::Reporter;
use ops_core::{Context, Environment, Report};
use ops_deploy::docker::Network;
use ops_deploy::{DockerHost, Error, ErrorKind, Gate, Target};
use tokio_util::sync::CancellationToken;

use crate::images::docker;
use crate::stage::{Dock, v};

/// An application whose first version is in service, and whose second one behaves in this way.
async fn with(mode: &str) -> Dock {
    let dock = Dock::new().await;
    dock.image("a000001", "healthy").await;
    dock.image("a000002", mode).await;
    dock.host().deploy(&dock.cx(), &v("a000001")).await.unwrap();
    dock
}

fn cx(dock: &Dock) -> ops_core::ContextBuilder {
    let builder = Context::builder(dock.path().join("state"));
    builder.environment(Environment::Development).program("docker-test")
}

fn outcome(error: &Error) -> &'static str {
    error.report().map_or("refused", |report| report.outcome.name())
}

/// The old version serves, nothing of the new one is left, and the lock is free.
async fn as_before(dock: &Dock) {
    let found = crate::dock_state::agreement(dock.path()).await.unwrap();
    assert_eq!(found, Some(v("a000001")));
    let names = dock.names().await;
    assert!(!names.iter().any(|name| name.contains("a000002")), "{names:?}");
}

#[tokio::test]
async fn an_image_that_vanishes_after_the_plan_is_refused() {
    let dock = with("healthy").await;
    let plan = dock.host().plan_deploy(&v("a000002")).await.unwrap();
    let tag = format!("{}/web:a000002", dock.application());
    let force = RemoveImageOptionsBuilder::default().force(true).build();
    docker().await.remove_image(&tag, Some(force), None).await.unwrap();
    let error: Error = dock.cx().execute(plan, &*dock.host().world()).await.unwrap_err().into();
    assert_eq!(outcome(&error), "refused", "{error:?}");
    assert!(error.to_string().contains("there is no image"), "{error}");
    as_before(&dock).await;
}

#[tokio::test]
async fn what_was_well_and_then_crashes_goes_back() {
    let dock = with("fades").await;
    let gate = Gate::default().consecutive(4).interval(Duration::from_millis(400));
    let host = dock.builder().gate(gate).service(crate::dock::web(dock.path())).build().unwrap();
    let error = host.deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");
    assert!(format!("{error:?}").contains("has ended"), "{error:?}");
    as_before(&dock).await;
}

#[tokio::test]
async fn a_container_that_ignores_the_asking_is_ended() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    // The first process of a container hears no SIGTERM that it does not ask for.
    let web =
        crate::dock::web(dock.path()).stop_signal("SIGTERM").stop_grace(Duration::from_millis(300));
    let host = dock.builder().service(web).build().unwrap();
    for version in ["a000001", "a000002"] {
        host.deploy(&dock.cx(), &v(version)).await.unwrap();
    }
    assert_eq!(dock.running().await.len(), 1);
    assert_eq!(dock.public_version().await, "a000002");
}

/// Two ports that follow each other and that are taken.
fn two_ports() -> Option<(u16, [TcpListener; 2])> {
    let one = TcpListener::bind("127.0.0.1:0").ok()?;
    let port = one.local_addr().ok()?.port();
    let other = TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
    Some((port, [one, other]))
}

#[tokio::test]
async fn where_no_port_is_free_nothing_starts() {
    let dock = with("healthy").await;
    let (port, _taken) = std::iter::repeat_with(two_ports).take(100).flatten().next().unwrap();
    let last = port + 1;
    let web = crate::dock::web(dock.path())
        .network(Network::Host { ports: port..=last, address: [127, 0, 0, 1].into() });
    let host = dock.builder().service(web).build().unwrap();
    let error = host.deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(outcome(&error), "refused", "{error:?}");
    assert!(format!("{error:?}").contains(&format!("no port from {port} to {last} is free")));
    as_before(&dock).await;
}

#[tokio::test]
async fn a_network_that_is_there_twice_is_refused() {
    let dock = with("healthy").await;
    let name = dock.application();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = NetworkCreateRequest { name: name.clone(), ..Default::default() };
        ids.push(docker().await.create_network(request).await.unwrap().id);
    }
    let web =
        crate::dock::web(dock.path()).network(Network::Named { name: name.clone(), port: 8080 });
    let host = dock.builder().service(web).build().unwrap();
    let ended = host.deploy(&dock.cx(), &v("a000002")).await;
    for id in ids {
        docker().await.remove_network(&id).await.unwrap();
    }
    let error = ended.unwrap_err();
    assert_eq!(outcome(&error), "refused", "{error:?}");
    assert!(error.to_string().contains("there are 2 networks named"), "{error}");
    as_before(&dock).await;
}

#[tokio::test]
async fn a_foreign_container_with_the_name_of_the_lock_is_named() {
    let dock = with("healthy").await;
    let name = format!("{}.ops-lock", dock.application());
    let image = format!("{}/web:a000001", dock.application());
    let body = ContainerCreateBody { image: Some(image), ..Default::default() };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker().await.create_container(Some(options), body).await.unwrap();
    let error = dock.host().deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(outcome(&error), "refused", "{error:?}");
    let told = error.to_string();
    assert!(told.contains(&format!("the container `{name}` is there, and is no lock")), "{told}");
    docker().await.remove_container(&name, None).await.unwrap();
    as_before(&dock).await;
    dock.host().deploy(&dock.cx(), &v("a000002")).await.unwrap();
}

#[tokio::test]
async fn a_container_in_service_that_was_removed_is_replaced() {
    let dock = with("healthy").await;
    let serving = dock.running().await.remove(0).name;
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    docker().await.remove_container(&serving, Some(force)).await.unwrap();
    assert_eq!(dock.host().observe().await.unwrap().current, None);
    dock.host().deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let found = crate::dock_state::agreement(dock.path()).await.unwrap();
    assert_eq!(found, Some(v("a000001")));
}

#[tokio::test]
async fn a_damaged_record_is_named_and_rebuilt_without_it() {
    let dock = with("healthy").await;
    let record = dock.path().join(format!("host/{}.history.json", dock.application()));
    std::fs::write(&record, "{\"schema\":1,").unwrap();
    let error = dock.host().deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("remove it: it is rebuilt"), "{error}");
    assert_eq!(dock.public_version().await, "a000001");
    std::fs::remove_file(record).unwrap();
    dock.host().deploy(&dock.cx(), &v("a000002")).await.unwrap();
    dock.host().rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
}

#[tokio::test]
async fn a_full_record_forgets_its_oldest() {
    let dock = with("healthy").await;
    let record = dock.path().join(format!("host/{}.history.json", dock.application()));
    let mut known: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let entry = known["entries"][0].clone();
    known["entries"] = vec![entry; 1000].into();
    std::fs::write(&record, known.to_string()).unwrap();
    dock.host().deploy(&dock.cx(), &v("a000002")).await.unwrap();
    let history = dock.host().look().await.unwrap().history;
    assert_eq!((history.entries().len(), history.latest()), (1000, Some(&v("a000002"))));
    assert_eq!(dock.host().rollback(&dock.cx(), None).await.unwrap().facts["to"], "a000001");
}

#[tokio::test]
async fn a_clock_that_jumps_back_changes_no_way_back() {
    let dock = with("healthy").await;
    let clock = ManualClock::new("2040-01-01T00:00:00Z".parse().unwrap());
    let jumps = clock.clone();
    let guard = FnProbe::new("clock", move || {
        jumps.jump_to("2001-01-01T00:00:00Z".parse().unwrap());
        async { Health::Healthy }
    });
    let web = crate::dock::web(dock.path());
    let host = dock.builder().keep(9).guard(guard).service(web).build().unwrap();
    dock.image("a000003", "healthy").await;
    let cx = cx(&dock).clock(clock).build();
    for version in ["a000002", "a000003"] {
        host.deploy(&cx, &v(version)).await.unwrap();
    }
    assert_eq!(host.rollback(&cx, None).await.unwrap().facts["to"], "a000002");
    assert_eq!(host.rollback(&cx, None).await.unwrap().facts["to"], "a000001");
    assert_eq!(dock.public_version().await, "a000001");
}

#[derive(Debug)]
struct Hangs;

impl Reporter for Hangs {
    fn report<'a>(&'a self, _: &'a Report) -> BoxFuture<'a, Result<(), ops_core::Error>> {
        std::future::pending().boxed()
    }
}

#[tokio::test]
async fn a_notifier_that_hangs_delays_nothing() {
    let dock = with("healthy").await;
    let cx = cx(&dock).reporter(Hangs).reporter_budget(Duration::from_millis(200)).build();
    let begun = Instant::now();
    let report = dock.host().deploy(&cx, &v("a000002")).await.unwrap();
    assert_eq!(report.outcome.name(), "completed");
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(dock.public_version().await, "a000002");
}

#[tokio::test]
async fn a_signal_goes_back_and_a_second_one_does_not_stop_that() {
    let dock = with("silent").await;
    let signal = CancellationToken::new();
    let cx = cx(&dock).cancellation(signal.clone()).build();
    let host = dock.host();
    let deployment = tokio::spawn(async move { host.deploy(&cx, &v("a000002")).await });
    crate::stage::until(async || {
        let names = dock.names().await;
        let begun = names.iter().any(|name| name.contains("a000002"));
        if begun { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    signal.cancel();
    signal.cancel();
    let error = deployment.await.unwrap().unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");
    as_before(&dock).await;
}

#[tokio::test]
async fn a_clean_up_that_is_older_than_a_rollback_is_refused() {
    let dock = with("healthy").await;
    let web = || crate::dock::web(dock.path());
    let generous = dock.builder().keep(9).service(web()).build().unwrap();
    dock.image("a000003", "healthy").await;
    for version in ["a000002", "a000003"] {
        generous.deploy(&dock.cx(), &v(version)).await.unwrap();
    }
    let host: DockerHost = dock.host();
    // It would remove the way back that the rollback will need.
    let stale = host.plan_cleanup(&dock.cx()).await.unwrap();
    assert!(stale.facts.contains_key("remove a000001"), "{stale}");
    generous.rollback(&dock.cx(), None).await.unwrap();
    let refused = dock.cx().execute(stale, &*host.world()).await.unwrap_err();
    assert!(refused.to_string().contains("a000002 is in service"), "{refused}");
    generous.rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
}

#[tokio::test]
async fn a_full_disk_goes_back_or_begins_nothing() {
    let dock = with("healthy").await;
    for (record, expected) in [(1, "refused"), (4, "rolled_back"), (9, "rolled_back")] {
        let disk = FailingIo::new(Fault::ShortWrite, record).for_ever();
        let cx = cx(&dock).journal_io(disk).build();
        let error = dock.host().deploy(&cx, &v("a000002")).await.unwrap_err();
        let told = format!("{error:?}");
        assert!(told.contains("no space left on device"), "{told}");
        assert_eq!(outcome(&error), expected, "{record}: {told}");
        let world = dock.host();
        let _ = ops_core::recover(&&world, &dock.cx()).await.unwrap();
        as_before(&dock).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_is_refused() {
    let dock = with("healthy").await;
    let web = crate::dock::web(dock.path()).secret("key", dock.path().join("no-such-file"));
    let host = dock.builder().service(web).build().unwrap();
    let error = host.deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(outcome(&error), "refused", "{error:?}");
    assert!(error.to_string().contains("the secret `key` of service `web` is no file"), "{error}");
    as_before(&dock).await;
}
