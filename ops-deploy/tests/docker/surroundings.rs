//! What containers need besides their image.

use bollard::models::NetworkCreateRequest;
use ops_core::Secret;
use ops_deploy::docker::Network;
use ops_deploy::{ContainerSpec, Preflight, Target};

use crate::images::docker;
use crate::stage::{Dock, get, http, v};

#[tokio::test]
async fn secrets_are_files_and_stand_in_no_environment() {
    let dock = Dock::new().await;
    dock.image("a000001", "healthy").await;
    let file = dock.path().join("key");
    std::fs::write(&file, "correct horse").unwrap();
    let web = crate::dock::web(dock.path()).secret("key", &file).env("V", "{version}");
    let host = dock.builder().service(web.clone()).build().unwrap();
    host.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let (_, _, body) = get(&http(), &dock.url("/secret")).await.unwrap();
    assert_eq!(body, "correct horse");
    let (_, _, environment) = get(&http(), &dock.url("/environment")).await.unwrap();
    assert!(environment.contains("V=a000001"), "{environment}");
    assert!(!environment.contains("correct horse"), "{environment}");

    // Every finding at once: a secret in the environment, no file, no network.
    dock.image("a000002", "healthy").await;
    let cx = dock.cx();
    cx.redactor().add(&Secret::new("correct horse"));
    std::fs::remove_file(&file).unwrap();
    let web = web
        .env("KEY", "my correct horse")
        .network(Network::Named { name: "nowhere".into(), port: 80 });
    let host = dock.builder().service(web).build().unwrap();
    let error = host.deploy(&cx, &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    let told: Vec<_> = error.reasons().iter().map(|reason| reason.reason.clone()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().any(|it| it.contains("variable `KEY`")), "{told:?}");
    assert!(told.iter().any(|it| it.contains("secret `key` of service `web` is no file")));
    assert!(told.iter().any(|it| it.contains("0 networks named `nowhere`")), "{told:?}");
    assert!(!format!("{error:?}").contains("correct horse"), "{error:?}");
}

struct OwnNetwork(String);

impl OwnNetwork {
    async fn remove(&self) {
        let _ = docker().await.remove_network(&self.0).await;
    }
}

#[tokio::test]
async fn containers_in_a_network_of_their_own_are_reached_at_their_addresses() {
    let dock = Dock::new().await;
    let network = OwnNetwork(dock.application());
    let request = NetworkCreateRequest { name: network.0.clone(), ..Default::default() };
    docker().await.create_network(request).await.unwrap();
    let web = crate::dock::web(dock.path())
        .network(Network::Named { name: network.0.clone(), port: 8080 });
    let host = dock.builder().service(web).build().unwrap();
    let work = async {
        for version in ["a000001", "a000002"] {
            dock.image(version, "healthy").await;
            host.deploy(&dock.cx(), &v(version)).await.map_err(|e| format!("{e:?}"))?;
            let heard = dock.public_version().await;
            if heard != version {
                return Err(format!("the public hears {heard}"));
            }
        }
        // Its address may be another one now.
        host.rollback(&dock.cx(), None).await.map_err(|e| format!("{e:?}"))?;
        let heard = dock.public_version().await;
        if heard == "a000001" { Ok(()) } else { Err(format!("the public hears {heard}")) }
    };
    let ended = work.await;
    crate::stage::remove_all(&dock.application()).await;
    network.remove().await;
    ended.unwrap();
}

#[tokio::test]
async fn published_ports_are_found_and_refused_where_none_is_free() {
    let dock = Dock::new().await;
    let network = OwnNetwork(dock.application());
    let request = NetworkCreateRequest { name: network.0.clone(), ..Default::default() };
    docker().await.create_network(request).await.unwrap();
    // Neighbours that are free for the moment, and outside of the range of all other tests.
    let two = (40_000..60_000_u16).step_by(2).find_map(|port| {
        let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        Some([bind(port)?, bind(port + 1)?])
    });
    let two = two.unwrap();
    let first = two[0].local_addr().unwrap();
    let published = Network::Published {
        network: Some(network.0.clone()),
        port: 8080,
        ports: first.port()..=first.port() + 1,
        address: first.ip(),
    };
    let web = crate::dock::web(dock.path()).network(published);
    let host = dock.builder().service(web).build().unwrap();
    let work = async {
        for version in ["a000001", "a000002"] {
            dock.image(version, "healthy").await;
        }
        let refused = host.deploy(&dock.cx(), &v("a000001")).await.unwrap_err();
        let told: Vec<_> = refused.reasons().iter().map(ToString::to_string).collect();
        if told.len() != 1 || !told[0].contains("is free for another container of `web`") {
            return Err(format!("{told:?}"));
        }
        drop(two);
        for version in ["a000001", "a000002"] {
            host.deploy(&dock.cx(), &v(version)).await.map_err(|e| format!("{e:?}"))?;
        }
        host.rollback(&dock.cx(), None).await.map_err(|e| format!("{e:?}"))?;
        let container = dock.running().await.remove(0);
        let address = container.address.unwrap();
        if address.ip() != first.ip() || address.port() - first.port() > 1 {
            return Err(format!("{container:?}"));
        }
        let heard = dock.public_version().await;
        if heard == "a000001" { Ok(()) } else { Err(format!("the public hears {heard}")) }
    };
    let ended = work.await;
    crate::stage::remove_all(&dock.application()).await;
    network.remove().await;
    ended.unwrap();
}

/// Which version a real server has is what the real `psql` says.
#[tokio::test]
async fn postgresql_is_asked_for_its_version() {
    let address = std::env::var("OPS_TEST_POSTGRES_URL")
        .expect("OPS_TEST_POSTGRES_URL must name a PostgreSQL server: run scripts/test");
    let dock = Dock::new().await;
    dock.image("a000001", "healthy").await;
    let mut wrong: url::Url = address.parse().unwrap();
    wrong.set_password(Some("hunter%202")).unwrap();
    let mut gone = wrong.clone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    gone.set_port(Some(free)).unwrap();
    let deploy = async |address: &str, at_least: &str| {
        let preflight = Preflight::new().postgres(&Secret::new(address), at_least).unwrap();
        let host = dock.builder().service(crate::dock::web(dock.path())).preflight(preflight);
        let cx = dock.cx();
        match host.build().unwrap().deploy(&cx, &v("a000001")).await {
            Ok(report) => report.outcome.name().to_owned(),
            Err(error) => {
                assert_eq!(error.report().unwrap().outcome.name(), "refused", "{error:?}");
                assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
                let reasons: Vec<_> = error.reasons().iter().map(ToString::to_string).collect();
                assert_eq!(reasons.len(), 1, "{reasons:?}");
                reasons.concat()
            }
        }
    };
    let old = deploy(&address, "999").await;
    assert!(old.contains("PostgreSQL is ") && old.contains("at least 999 is needed"), "{old}");
    let refused = deploy(wrong.as_str(), "9").await;
    assert!(refused.contains("the version of PostgreSQL cannot be told"), "{refused}");
    assert!(refused.contains("password authentication failed"), "{refused}");
    let silent = deploy(gone.as_str(), "9").await;
    assert!(silent.contains("the version of PostgreSQL cannot be told"), "{silent}");
    assert!(silent.contains("refused"), "{silent}");
    assert_eq!(deploy(&address, "9").await, "completed");
}

#[tokio::test]
async fn a_service_that_was_taken_out_of_the_settings_has_time_to_end() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
        let bot = format!("{}/bot:{version}", dock.application());
        crate::images::import(&bot, "worker", &[]).await;
    }
    let web = crate::dock::web(dock.path());
    let bot = ContainerSpec::new("bot", format!("{}/bot", dock.application())).silent();
    let both = dock.builder().service(web.clone()).service(bot).build().unwrap();
    both.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let one = dock.builder().service(web).keep(9).build().unwrap();
    let begun = std::time::Instant::now();
    one.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    // The worker does not hear the signal, and is killed when its time is over.
    assert!(begun.elapsed() > std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(dock.running().await.len(), 1);
}
