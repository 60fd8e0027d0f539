//! What is in service is told by what runs.

use ops_deploy::{ContainerSpec, DockerHost, ErrorKind, Target};

use crate::images::{docker, import};
use crate::stage::{Dock, v};

#[tokio::test]
async fn mixed_versions_are_an_error_that_lists_them() {
    let dock = Dock::without_proxy();
    let application = dock.application();
    let bot =
        ContainerSpec::new("bot", format!("{application}/bot")).silent().stop_signal("SIGKILL");
    let host = dock.builder().service(bot).build().unwrap();
    for version in ["a000001", "a000002"] {
        import(&format!("{application}/bot:{version}"), "worker", &[]).await;
        host.deploy(&dock.cx(), &v(version)).await.unwrap();
    }
    assert_eq!(host.observe().await.unwrap().current, Some(v("a000002")));
    let stopped = host.look().await.unwrap().containers[0].name.clone();
    docker().await.start_container(&stopped, None).await.unwrap();

    let seen = host.observe().await.unwrap();
    assert_eq!(seen.current, None);
    assert_eq!(seen.running.len(), 2);
    let error = host.plan_deploy(&v("a000001")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCurrent);
    let told = error.to_string();
    assert!(told.starts_with("cannot determine the current version (running="), "{told}");
    assert!(told.contains(&stopped) && told.contains("bot-a000002"), "{told}");
    assert!(told.contains("complete=a000001, a000002"), "{told}");
}

#[tokio::test]
async fn services_of_different_versions_are_an_error() {
    let dock = Dock::new().await;
    let application = dock.application();
    let bot =
        || ContainerSpec::new("bot", format!("{application}/bot")).silent().stop_signal("SIGKILL");
    let all = || dock.builder().service(crate::dock::web(dock.path())).service(bot());
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
        import(&format!("{application}/bot:{version}"), "worker", &[]).await;
    }
    all().build().unwrap().deploy(&dock.cx(), &v("a000001")).await.unwrap();
    // Somebody deploys one of the two alone; the other's containers are not in its settings.
    let state = ops_core::Context::builder(dock.path().join("elsewhere"))
        .environment(ops_core::Environment::Development)
        .build();
    let folder = dock.path().join("elsewhere-host");
    std::fs::create_dir_all(&folder).unwrap();
    let other = DockerHost::builder(&application, crate::dock::engine(), folder)
        .service(bot())
        .build()
        .unwrap();
    let error = other.deploy(&state, &v("a000002")).await.map(|_| ());
    assert!(error.is_ok(), "{error:?}");
    let error = all().build().unwrap().look().await.unwrap().current().unwrap_err().to_string();
    assert!(error.contains("`bot` is a000002, `web` is a000001"), "{error}");
}

#[tokio::test]
async fn another_machine_and_one_that_lost_its_record_find_their_way() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    for version in ["a000001", "a000002", "a000003"] {
        dock.image(version, "healthy").await;
        host.deploy(&cx, &v(version)).await.unwrap();
    }
    let record = dock.path().join(format!("host/{}.history.json", dock.application()));
    let before = host.look().await.unwrap().history;
    assert_eq!(before.entries().len(), 3);
    assert_eq!(before.entries()[2].images.len(), 1);
    std::fs::remove_file(&record).unwrap();
    // The first one's container is gone with its release.
    let way = host.look().await.unwrap().history;
    let names: Vec<_> = way.way_back().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a000003", "a000002"]);

    let elsewhere = dock.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let other = DockerHost::builder(dock.application(), crate::dock::engine(), &elsewhere)
        .service(crate::dock::web(dock.path()))
        .build()
        .unwrap();
    let state = ops_core::Context::builder(elsewhere.join("state"))
        .environment(ops_core::Environment::Development)
        .build();
    other.rollback(&state, None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000002");
    // The first one sees it, and does not go forward to what was left.
    assert_eq!(host.observe().await.unwrap().current, Some(v("a000002")));
    let error = host.rollback(&cx, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoPrevious, "{error:?}");
}
