//! What containers need besides their image.

use bollard::models::NetworkCreateRequest;
use ops_core::Secret;
use ops_deploy::Target;
use ops_deploy::docker::Network;

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
