//! The engine is restarted in the middle of a deployment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ops_core::probe::{FnProbe, Health};
use ops_deploy::load::Load;
use ops_deploy::{Gate, Target};

use crate::engine::OwnEngine;
use crate::stage::{Dock, v};

#[tokio::test]
async fn an_engine_that_restarts_in_the_middle_costs_no_request() {
    let engine = Arc::new(Mutex::new(OwnEngine::start()));
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    dock.host().deploy(&dock.cx(), &v("a000001")).await.unwrap();
    let load = Load::on(dock.address()).fresh(1).kept(1).per_second(50).start().unwrap();
    let (restarts, once) = (Arc::clone(&engine), Arc::new(AtomicBool::new(true)));
    let guard = FnProbe::new("restart", move || {
        let (restarts, once) = (Arc::clone(&restarts), Arc::clone(&once));
        async move {
            if once.swap(false, Ordering::SeqCst) {
                let restart = move || restarts.lock().unwrap().restart();
                tokio::task::spawn_blocking(restart).await.unwrap();
            }
            Health::Healthy
        }
    });
    let gate = Gate::default().timeout(Duration::from_secs(20)).deadline(Duration::from_secs(40));
    let web = crate::dock::web(dock.path());
    let host = dock.builder().gate(gate).guard(guard).service(web).build().unwrap();
    host.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    let found = crate::dock_state::agreement(dock.path()).await.unwrap();
    assert_eq!(found, Some(v("a000002")));
    let figures = tokio::task::spawn_blocking(|| load.stop()).await.unwrap();
    assert!(figures.failed == 0 && figures.asked > 50, "{figures}");
}
