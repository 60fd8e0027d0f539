//! Builds, migrations, commands between the stages, and the watch before the commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ops_core::probe::{FnProbe, Health};
use ops_deploy::docker::DockerHostBuilder;
use ops_deploy::{Bake, ErrorKind, Hook, Migration, Target, When};

use crate::images::docker;
use crate::stage::{Dock, get, http, v};

fn builder(dock: &Dock) -> DockerHostBuilder {
    dock.builder().service(crate::dock::web(dock.path()))
}

/// A command that writes down that it was called.
fn note(dock: &Dock, name: &str, more: &str) -> Hook {
    let log = dock.path().join("log").to_str().unwrap().to_owned();
    let line = format!("echo {name} \"$1\" >> {log}; {more}");
    Hook::new(name, ["sh", "-c", line.as_str(), "sh", "{version}"]).undo([
        "sh",
        "-c",
        &format!("echo undo-{name} \"$1\" >> {log}"),
        "sh",
        "{version}",
    ])
}

fn noted(dock: &Dock) -> Vec<String> {
    let text = std::fs::read_to_string(dock.path().join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn commands_run_between_the_stages_and_are_taken_back() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    let stages = |last: &str| {
        builder(&dock)
            .hook(When::BeforeStart, note(&dock, "prepare", ""))
            .hook(When::BeforeSwitch, note(&dock, "warm", ""))
            .hook(When::AfterSwitch, note(&dock, "purge", last))
            .hook(When::AfterCommit, note(&dock, "tell", ""))
            .build()
            .unwrap()
    };
    let host = stages("");
    host.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let all = ["prepare a000001", "warm a000001", "purge a000001", "tell a000001"];
    assert_eq!(noted(&dock), all);

    let error = stages("exit 6").deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!(dock.public_version().await, "a000001");
    let back = ["undo-purge a000002", "undo-warm a000002", "undo-prepare a000002"];
    assert_eq!(noted(&dock)[7..], back, "{:?}", noted(&dock));
}

fn migration(dock: &Dock, code: i32) -> Migration {
    let rehearse = format!("exit {code}");
    Migration::new(note(dock, "schema", ""))
        .rehearsal(Hook::new("rehearse", ["sh", "-c", rehearse.as_str()]))
}

#[tokio::test]
async fn a_migration_stays_and_one_that_closes_the_way_back_asks_for_a_word() {
    let dock = Dock::new().await;
    for (version, mode) in [
        ("a000001", "healthy"),
        ("a000002", "healthy"),
        ("b000001", "crash"),
        ("a000003", "healthy"),
    ] {
        dock.image(version, mode).await;
    }
    let with = |migration| builder(&dock).keep(9).migration(migration).build().unwrap();
    let (cx, fine) = (dock.cx(), with(migration(&dock, 0)));
    let plan = fine.plan_deploy(&v("a000001")).await.unwrap().to_string();
    assert!(plan.contains("stays, even when the operation goes back"), "{plan}");
    fine.deploy(&cx, &v("a000001")).await.unwrap();
    // It stays when the version goes back, and the old one runs with it.
    fine.deploy(&cx, &v("b000001")).await.unwrap_err();
    assert_eq!(noted(&dock), ["schema a000001", "schema b000001"]);

    let error = with(migration(&dock, 3)).deploy(&cx, &v("a000002")).await.unwrap_err();
    assert!(format!("{error:?}").contains("the old version could not run"), "{error:?}");
    assert_eq!(noted(&dock).len(), 2, "it was only rehearsed");
    let broken = with(migration(&dock, 1)).deploy(&cx, &v("a000002")).await.unwrap_err();
    assert!(format!("{broken:?}").contains("ended with code 1"), "{broken:?}");

    let bold = with(migration(&dock, 3).allow_incompatible());
    let plan = bold.plan_deploy(&v("a000002")).await.unwrap().to_string();
    assert!(plan.contains("destroys migrate the schema to a000002"), "{plan}");
    let refused = bold.deploy(&cx, &v("a000002")).await.unwrap_err();
    assert!(refused.to_string().contains("needs an approval"), "{refused}");
    let approving = ops_core::Context::builder(dock.path().join("approving"))
        .environment(ops_core::Environment::Development)
        .approver(ops_core::ApproveIf::new("me", |_: &_| true))
        .build();
    bold.deploy(&approving, &v("a000002")).await.unwrap();
    fine.deploy(&cx, &v("a000003")).await.unwrap();
    // Back to the one that has the migration, but not behind it.
    fine.rollback(&cx, None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000002");
    for to in [None, Some(v("a000001"))] {
        let error = fine.rollback(&cx, to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoPrevious);
        let told = error.to_string();
        assert!(
            told.contains("closed: it cannot run after the migration `schema` of a000002"),
            "{told}"
        );
    }
    let plan = fine.plan_rollback_across_migrations(None).await.unwrap();
    assert_eq!(plan.facts["across migration"], "schema of a000002");
    cx.execute(plan, &*fine.world()).await.unwrap();
    assert_eq!(dock.public_version().await, "a000001");
}

#[tokio::test]
async fn a_version_without_images_is_built_and_pinned() {
    let dock = Dock::new().await;
    let repository = format!("{}/web", dock.application());
    // The build is a tag; what it makes is believed when it is there.
    dock.image("f000001", "healthy").await;
    let socket = crate::dock::engine();
    let tag = Hook::new(
        "docker build",
        [
            "docker",
            "--host",
            &socket,
            "tag",
            &format!("{repository}:f000001"),
            &format!("{repository}:{{version}}"),
        ],
    );
    let host = builder(&dock).build_images(tag).build().unwrap();
    let plan = host.plan_deploy(&v("a000001")).await.unwrap();
    assert!(plan.to_string().contains("build a000001, if it is not complete"), "{plan}");
    let error = host.plan_rollback(Some(v("a000001"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion, "a rollback builds nothing");
    // The image says that it is another version: the gate is not fooled by a tag.
    let error = host.deploy(&dock.cx(), &v("a000001")).await.unwrap_err();
    assert!(format!("{error:?}").contains("`f000001`, expected `a000001`"), "{error:?}");
    let tag = format!("{repository}:a000001");
    assert!(docker().await.inspect_image(&tag).await.is_ok(), "what was built stays");

    let image = dock.image("a000002", "healthy").await;
    let options = bollard::query_parameters::RemoveImageOptions::default();
    docker()
        .await
        .tag_image(
            &image,
            Some(
                bollard::query_parameters::TagImageOptionsBuilder::default()
                    .repo(&repository)
                    .tag("kept")
                    .build(),
            ),
        )
        .await
        .unwrap();
    docker()
        .await
        .remove_image(&format!("{repository}:a000002"), Some(options), None)
        .await
        .unwrap();
    let build = Hook::new(
        "docker build",
        [
            "docker",
            "--host",
            &socket,
            "tag",
            &format!("{repository}:kept"),
            &format!("{repository}:{{version}}"),
        ],
    );
    let host = builder(&dock).build_images(build).build().unwrap();
    host.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    let status = host.look().await.unwrap();
    assert_eq!(status.history.entries()[0].images["web"], image);

    let liar = builder(&dock).build_images(Hook::new("liar", ["true"])).build().unwrap();
    let error = liar.deploy(&dock.cx(), &v("a000003")).await.unwrap_err();
    assert!(format!("{error:?}").contains("does not exist or is incomplete"), "{error:?}");
    assert_eq!(dock.public_version().await, "a000002");
}

#[tokio::test]
async fn what_falls_sick_under_traffic_goes_back_and_a_blip_is_forgiven() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    let bake = Bake::lasting(Duration::from_secs(2))
        .interval(Duration::from_millis(30))
        .hysteresis(3, 2)
        .error_rate(0.5)
        .latency(Duration::from_secs(2));
    let sick = Arc::new(AtomicBool::new(false));
    let blips = Arc::new(AtomicBool::new(true));
    let guard = {
        let (sick, blips, url) = (Arc::clone(&sick), Arc::clone(&blips), dock.url("/health"));
        move || {
            let (sick, blips) = (sick.load(Ordering::Relaxed), Arc::clone(&blips));
            let url = url.clone();
            FnProbe::new("orders", move || {
                let (url, blips) = (url.clone(), Arc::clone(&blips));
                async move {
                    // Only once the new version has the traffic.
                    let new =
                        matches!(get(&http(), &url).await, Ok((_, says, _)) if says == "a000002");
                    if new && (sick || blips.swap(false, Ordering::Relaxed)) {
                        return Health::unhealthy("no orders");
                    }
                    Health::Healthy
                }
            })
        }
    };
    let host = || builder(&dock).guard(guard()).bake(bake.clone()).build().unwrap();
    let begun = Instant::now();
    host().deploy(&dock.cx(), &v("a000001")).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2), "it was watched");
    sick.store(true, Ordering::Relaxed);
    let error = host().deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    let told = format!("{error:?}");
    assert!(
        told.contains("a000002 did not do well under traffic: 3 bad rounds in a row"),
        "{told}"
    );
    assert!(told.contains("orders is unhealthy: no orders"), "{told}");
    assert_eq!(dock.public_version().await, "a000001");

    sick.store(false, Ordering::Relaxed);
    blips.store(true, Ordering::Relaxed);
    host().deploy(&dock.cx(), &v("a000002")).await.unwrap();
    assert_eq!(dock.public_version().await, "a000002");
    assert!(!blips.load(Ordering::Relaxed), "there was a blip");

    // Limits that nothing meets: the measures are real.
    let hungry = bake.clone().load(0.8, 0.000_000_1);
    let host = builder(&dock).bake(hungry).build().unwrap();
    let error = host.rollback(&dock.cx(), None).await.unwrap_err();
    assert!(format!("{error:?}").contains("of its memory"), "{error:?}");
    let slow = bake.latency(Duration::from_nanos(1));
    let host = builder(&dock).bake(slow).build().unwrap();
    let error = host.rollback(&dock.cx(), None).await.unwrap_err();
    assert!(format!("{error:?}").contains("to answer, 1ns at most"), "{error:?}");
}

#[test]
fn commands_that_make_no_sense_are_refused_at_once() {
    let folder: PathBuf = Path::new("/").into();
    let error = ops_deploy::DockerHost::builder("shop", "unix:///docker.sock", folder)
        .service(ops_deploy::ContainerSpec::new("web", "shop"))
        .hook(When::AfterSwitch, Hook::new("x", ["{no}"]))
        .hook(When::AfterSwitch, Hook::new("x", [""]))
        .migration(Migration::new(Hook::new::<&str>("", [])))
        .bake(Bake::lasting(Duration::from_hours(1)))
        .build()
        .unwrap_err();
    assert_eq!(error.reasons().len(), 5, "{error:?}");
}
