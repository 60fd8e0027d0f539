//! Deployers of several machines exclude each other on the engine.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use ops_core::probe::{FnProbe, Health};
use ops_core::{Context, Environment};
use ops_deploy::{DockerHost, Gate, Target};

use crate::images::docker;
use crate::stage::{Dock, until, v};

/// Another machine's deployer: a folder and a state of its own.
fn machine(dock: &Dock, name: &str) -> (DockerHost, Context) {
    let folder = dock.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let gate = Gate::default().consecutive(2).deadline(Duration::from_secs(20));
    let host = DockerHost::builder(dock.application(), crate::dock::engine(), &folder)
        .gate(gate)
        .service(crate::dock::web(dock.path()))
        .build()
        .unwrap();
    let cx = Context::builder(folder.join("state")).environment(Environment::Development).build();
    (host, cx)
}

fn lock_name(dock: &Dock) -> String {
    format!("{}.ops-lock", dock.application())
}

#[tokio::test]
async fn who_deploys_is_named_to_the_other() {
    let dock = Dock::new().await;
    dock.image("a000001", "healthy").await;
    dock.image("b000001", "silent").await;
    let ((one, one_cx), (other, other_cx)) = (machine(&dock, "one"), machine(&dock, "other"));
    let slow = tokio::spawn(async move { one.deploy(&one_cx, &v("b000001")).await });
    until(async || {
        let names = dock.names().await;
        if names.iter().any(|name| name.contains("b000001")) {
            return Ok(());
        }
        Err(format!("{names:?}"))
    })
    .await;
    let refused = other.deploy(&other_cx, &v("a000001")).await.unwrap_err();
    let told = refused.to_string();
    assert_eq!(refused.report().unwrap().outcome.name(), "refused", "{refused:?}");
    let me = format!("process {} on `{}`", std::process::id(), ops_core::host::hostname());
    assert!(told.contains(&me) && told.contains("holds the lock since 20"), "{told}");
    assert!(slow.await.unwrap().is_err(), "its version is not well");
    other.deploy(&other_cx, &v("a000001")).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
}

async fn lock_of_another(dock: &Dock, image: &str, lease: &str) {
    let labels = [
        ("application", dock.application()),
        ("role", "lock".to_owned()),
        ("operation", "01JD2Q5W3V8Y7K6M4N9P0R1S2T".to_owned()),
        ("machine", "elsewhere".to_owned()),
        ("lease-seconds", lease.to_owned()),
    ];
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(HashMap::from(labels.map(|(k, v)| (format!("ops-deploy.{k}"), v)))),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&lock_name(dock)).build();
    docker().await.create_container(Some(options), body).await.unwrap();
}

#[tokio::test]
async fn of_those_who_take_an_expired_lock_over_exactly_one_wins() {
    let dock = Dock::new().await;
    let image = dock.image("a000001", "healthy").await;
    lock_of_another(&dock, &image, "0").await;
    let mut planned = Vec::new();
    for n in 0..4 {
        let (host, cx) = machine(&dock, &format!("machine{n}"));
        planned.push((host.plan_deploy(&v("a000001")).await.unwrap(), host, cx));
    }
    let running = planned.into_iter().map(|(plan, host, cx)| {
        tokio::spawn(
            async move { cx.execute(plan, &*host.world()).await.map_err(|e| e.to_string()) },
        )
    });
    let (mut won, mut lost) = (0, Vec::new());
    for one in running.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(report) => won += usize::from(report.outcome.name() == "completed"),
            Err(why) => lost.push(why),
        }
    }
    assert_eq!((won, lost.len()), (1, 3), "{lost:?}");
    for why in &lost {
        let fair = ["holds the lock", "planned for", "plan was made for", "changes hands"];
        assert!(fair.iter().any(|fair| why.contains(fair)), "{why}");
    }
    assert_eq!(dock.public_version().await, "a000001");
    assert_eq!(dock.names().await.len(), 1, "no lock is left: {:?}", dock.names().await);
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_not_free() {
    let dock = Dock::new().await;
    let image = dock.image("a000001", "healthy").await;
    lock_of_another(&dock, &image, "until a newer program says so").await;
    let (host, cx) = machine(&dock, "machine");
    let error = host.deploy(&cx, &v("a000001")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused", "{error:?}");
    assert!(error.to_string().contains("holds the lock"), "{error}");
}

#[tokio::test]
async fn whoever_lost_the_lock_stops_and_goes_back() {
    let dock = Dock::new().await;
    dock.image("a000001", "healthy").await;
    let name = lock_name(&dock);
    let prune = FnProbe::new("prune", move || {
        let name = name.clone();
        async move {
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            let _ = docker().await.remove_container(&name, Some(force)).await;
            Health::Healthy
        }
    });
    let web = crate::dock::web(dock.path());
    let host = dock.builder().service(web).guard(prune).build().unwrap();
    let error = host.deploy(&dock.cx(), &v("a000001")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(format!("{error:?}").contains("the lock on the engine is lost"), "{error:?}");
    assert!(dock.names().await.is_empty(), "{:?}", dock.names().await);
    assert!(dock.client_points_nowhere().await);
}

#[test]
fn what_is_set_up_badly_is_refused_all_at_once() {
    let error = DockerHost::builder("Shop", "docker.sock", Path::new("/does/not/exist"))
        .gate(Gate::default().consecutive(0))
        .lock_lease(Duration::from_secs(1))
        .build()
        .unwrap_err();
    assert_eq!(error.reasons().len(), 6, "{error:?}");
}
