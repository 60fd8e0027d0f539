//! The proxy is killed while the traffic moves; somebody else moves it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{Context, Environment, Outcome};
use ops_deploy::{Error, MemorySwitch, Pointer, ProxyClient, Target, TrafficSwitch, Upstream};

use crate::stage::{PROGRAM, Stage, get, http, until, v};

/// Kills the proxy when the traffic is to move to v2: before the switch arrives, or just after.
#[derive(Debug)]
struct Killer {
    client: ProxyClient,
    proxy: Arc<Mutex<Child>>,
    after: bool,
}

impl Killer {
    fn kill(&self) {
        let mut proxy = self.proxy.lock().unwrap();
        proxy.kill().unwrap();
        proxy.wait().unwrap();
    }
}

impl TrafficSwitch for Killer {
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>> {
        self.client.current()
    }

    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>> {
        async move {
            let dies = to.is_some_and(|to| to.instance.starts_with("v2-"));
            if dies && !self.after {
                self.kill();
            }
            let switched = self.client.switch(expected_epoch, to).await;
            if dies && self.after {
                self.kill();
                return self.client.switch(expected_epoch, to).await;
            }
            switched
        }
        .boxed()
    }

    fn in_flight<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>> {
        self.client.in_flight(upstream)
    }
}

fn start(dir: &Path, address: &str) -> Child {
    Command::new(PROGRAM).arg("proxy").arg(dir).arg(address).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_dies_during_the_switch_comes_back_to_the_old() {
    for after in [false, true] {
        let stage = Stage::without_proxy();
        for version in ["v1", "v2"] {
            stage.release(version, "healthy");
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let proxy = Arc::new(Mutex::new(start(stage.path(), &address)));
        let client = stage.client();
        let up = async || client.status().await.map(drop).map_err(|error| error.to_string());
        until(up).await;
        let cx = Context::builder(stage.path().join("state"))
            .environment(Environment::Development)
            .undo_budget(Duration::from_secs(1))
            .build();
        let killer = Killer { client: stage.client(), proxy: Arc::clone(&proxy), after };
        let site = stage.builder().traffic(killer).build().unwrap();
        site.deploy(&cx, &v("v1")).await.unwrap();

        let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
        let report = error.report().unwrap();
        assert!(matches!(report.outcome, Outcome::NeedsPerson { .. }), "{report:?}");
        assert!(error.to_string().contains("proxy"), "{error}");
        assert_eq!(stage.running().await.len(), 2, "nothing was stopped that may have the traffic");

        *proxy.lock().unwrap() = start(stage.path(), &address);
        until(up).await;
        let recovery = ops_core::recover(&&site, &cx).await.unwrap();
        assert!(matches!(recovery.reports[0].outcome, Outcome::RolledBack { .. }));
        let (_, version, _) = get(&http(), &format!("http://{address}/")).await.unwrap();
        assert_eq!(version, "v1", "after={after}");
        assert_eq!(stage.link().unwrap(), "releases/v1");
        assert_eq!(site.status().await.unwrap().running.len(), 1);
        let mut proxy = proxy.lock().unwrap();
        proxy.kill().unwrap();
        proxy.wait().unwrap();
    }
}

/// Somebody moves the traffic back to v1 as soon as v2 stands in the history.
#[derive(Debug)]
struct Meddler {
    inner: MemorySwitch,
    history: PathBuf,
    first: Mutex<Option<Upstream>>,
}

impl TrafficSwitch for Meddler {
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>> {
        async {
            let committed = std::fs::read_to_string(&self.history).unwrap_or_default();
            let now = self.inner.current().await?;
            let first = self.first.lock().unwrap().clone();
            if committed.contains("\"v2\"") && now.upstream != first {
                return self.inner.switch(now.epoch, first.as_ref()).await;
            }
            Ok(now)
        }
        .boxed()
    }

    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>> {
        self.first.lock().unwrap().get_or_insert_with(|| to.unwrap().clone());
        self.inner.switch(expected_epoch, to)
    }

    fn in_flight<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>> {
        self.inner.in_flight(upstream)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_traffic_is_never_stopped() {
    let stage = Stage::without_proxy();
    for version in ["v1", "v2"] {
        stage.release(version, "healthy");
    }
    let (inner, history) = (MemorySwitch::new(), stage.path().join("site/history.json"));
    let site = stage.builder().traffic(Meddler { inner, history, first: Mutex::default() });
    let site = site.build().unwrap();
    let cx = Context::builder(stage.path().join("state"))
        .environment(Environment::Development)
        .finish_budget(Duration::from_millis(300))
        .build();
    site.deploy(&cx, &v("v1")).await.unwrap();
    let told = format!("{:?}", site.deploy(&cx, &v("v2")).await);
    assert!(told.contains("the traffic does not go to the new instance"), "{told}");
    assert!(told.contains("FinishersPending"), "{told}");
    assert_eq!(stage.running().await.len(), 2, "v1 has the traffic, and was not stopped");
}
