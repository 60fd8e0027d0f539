//! Which versions are complete, and which are not any more.

use ops_deploy::docker::Release;
use ops_deploy::{ContainerSpec, DockerHost, ErrorKind, Target};

use crate::images::{docker, import};
use crate::stage::{Dock, v};

async fn release(host: &DockerHost, version: &str) -> Release {
    let status = host.look().await.unwrap();
    status.releases.into_iter().find(|release| release.version == v(version)).unwrap()
}

async fn retag(image: &str, repository: &str, version: &str) {
    let options = bollard::query_parameters::TagImageOptionsBuilder::default()
        .repo(repository)
        .tag(version)
        .build();
    docker().await.tag_image(image, Some(options)).await.unwrap();
}

#[tokio::test]
async fn a_version_without_an_image_for_each_service_is_not_deployed() {
    let dock = Dock::new().await;
    let application = dock.application();
    let bot =
        ContainerSpec::new("bot", format!("{application}/bot")).silent().stop_signal("SIGKILL");
    let host = dock.builder().service(crate::dock::web(dock.path())).service(bot).build().unwrap();
    dock.image("a000001", "healthy").await;
    import(&format!("{application}/bot:a000001"), "worker", &[]).await;
    dock.image("a000002", "healthy").await;
    dock.image("latest", "healthy").await;

    let error = host.plan_deploy(&v("a000002")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion);
    let expected = format!(
        "version `a000002` does not exist or is incomplete: service `bot` has no image \
         `{application}/bot:a000002`; complete versions: a000001"
    );
    assert_eq!(error.to_string(), expected);
    let error = host.plan_rollback(Some(v("a000009"))).await.unwrap_err();
    assert!(error.to_string().contains("there is no image of it"), "{error}");
    let versions = host.versions().await.unwrap();
    assert_eq!(versions, [v("a000001")], "`latest` is no version");

    // All services come, the worker too, and each is on its own.
    host.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let running = dock.names().await;
    assert_eq!(running.len(), 2, "{running:?}");
    let status = host.look().await.unwrap();
    assert_eq!(status.in_service.len(), 2, "{status:?}");
    assert!(release(&host, "a000002").await.created >= release(&host, "a000001").await.created);
}

#[tokio::test]
async fn a_tag_that_moved_is_found() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    let repository = format!("{}/web", dock.application());
    dock.image("a000001", "healthy").await;
    let other = dock.image("a000002", "healthy").await;

    // Between the plan and its run.
    let plan = host.plan_deploy(&v("a000001")).await.unwrap();
    retag(&other, &repository, "a000001").await;
    let error = cx.execute(plan, &*host.world()).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused", "{error:?}");
    assert!(error.to_string().contains("has moved from sha256:"), "{error}");

    // After it was deployed.
    dock.image("a000001", "healthy").await;
    host.deploy(&cx, &v("a000001")).await.unwrap();
    host.deploy(&cx, &v("a000002")).await.unwrap();
    assert!(release(&host, "a000001").await.is_complete());
    retag(&other, &repository, "a000001").await;
    let lacking = release(&host, "a000001").await.lacking;
    assert!(lacking[0].contains("has moved from sha256:"), "{lacking:?}");
    assert!(lacking[0].contains("which was deployed"), "{lacking:?}");
    let error = host.plan_rollback(Some(v("a000001"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion, "{error:?}");
}

#[tokio::test]
async fn a_prefix_that_two_commits_share_is_refused_with_both() {
    let dock = Dock::new().await;
    let application = dock.application();
    let commit = |end: char| format!("a000001{}", end.to_string().repeat(33));
    let label = |commit: &str| format!("LABEL org.opencontainers.image.revision={commit}");
    let bot =
        ContainerSpec::new("bot", format!("{application}/bot")).silent().stop_signal("SIGKILL");
    let host = dock.builder().service(crate::dock::web(dock.path())).service(bot).build().unwrap();
    let (one, other) = (commit('1'), commit('2'));
    import(&format!("{application}/web:a000001"), "healthy", &[&label(&one)]).await;
    import(&format!("{application}/bot:a000001"), "worker", &[&label(&one)]).await;
    let whole = release(&host, "a000001").await;
    assert!(whole.is_complete(), "{whole:?}");
    assert_eq!(whole.revision.unwrap().as_str(), one);
    import(&format!("{application}/bot:a000001"), "worker", &[&label(&other)]).await;
    let error = host.plan_deploy(&v("a000001")).await.unwrap_err().to_string();
    assert!(error.contains(&one) && error.contains(&other), "{error}");
    import(&format!("{application}/web:a000002"), "healthy", &[&label(&one)]).await;
    import(&format!("{application}/bot:a000002"), "worker", &[]).await;
    let error = host.plan_deploy(&v("a000002")).await.unwrap_err().to_string();
    assert!(error.contains(&format!("was made from commit `{one}`")), "{error}");
}
