//! What goes wrong around a deployment: deadlines, damaged records, a proxy that hangs, rivals.

use std::future::pending;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ops_core::{AbortReason, Context, Environment, Outcome, StepStatus};
use ops_deploy::{Error, ErrorKind, Gate, ProxyClient, Target};

use crate::odd_switch::OddSwitch;
use crate::stage::{PROGRAM, Stage, get, http, v};

/// A gate that would wait for an hour.
fn patient() -> Gate {
    Gate::default().interval(Duration::from_millis(20)).deadline(Duration::from_hours(1))
}

/// It went back since its time was over, and that was in this step.
fn went_back_in_time(error: &Error, step: &str) {
    let report = error.report().expect("a report");
    let reached = report.steps.iter().rfind(|step| step.status != StepStatus::NotRun);
    assert_eq!(reached.expect("a step").name, step, "{report:?}");
    let Outcome::RolledBack { why, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(*why, AbortReason::DeadlinePassed, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_deployment_holds_in_its_gate() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "silent");
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let before = stage.running().await;
    let site = stage.builder().gate(patient()).deadline(Duration::from_secs(4)).build().unwrap();
    let error = site.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    went_back_in_time(&error, "pass_gate");
    assert_eq!(stage.running().await, before);
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_deployment_holds_in_its_switch() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    let switch = OddSwitch::new(|| Box::pin(pending()));
    let builder = || stage.builder().traffic(switch.clone());
    builder().build().unwrap().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let site = builder().deadline(Duration::from_secs(5)).build().unwrap();
    let cx = Context::builder(stage.path().join("state"))
        .environment(Environment::Development)
        .step_grace(Duration::from_millis(200))
        .build();
    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    went_back_in_time(&error, "switch_traffic");
    assert!(switch.first.lock().unwrap().is_some(), "it was asked for");
    assert!(switch.inner.pointer().upstream.unwrap().instance.starts_with("v1-"));
    assert_eq!(site.look().await.unwrap().current().unwrap(), Some(&v("v1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_deployment_holds_in_its_last_look() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let before = stage.running().await;
    // Whoever asks there is heard, and never answered.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap()).parse().unwrap();
    let gate = patient().timeout(Duration::from_millis(300));
    let builder = stage.builder().gate(gate).public_url(url).deadline(Duration::from_secs(6));
    let error = builder.build().unwrap().deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    went_back_in_time(&error, "verify_public");
    assert_eq!(stage.running().await, before);
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hangs_is_named_and_nothing_starts() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    let folder = stage.path().join("proxy");
    std::fs::create_dir_all(&folder).unwrap();
    // The kernel takes the connections of a socket that nobody accepts.
    let _deaf = std::os::unix::net::UnixListener::bind(folder.join("admin.sock")).unwrap();
    let client = ProxyClient::new(&folder).deadline(Duration::from_millis(200));
    let site = stage.builder().traffic(client).build().unwrap();
    let begun = Instant::now();
    let error = site.plan_deploy(&v("v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Proxy);
    assert!(error.to_string().contains("did not answer within 200ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert!(!stage.path().join("site/run").exists(), "nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_what_has_stopped_blocks_nothing() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    for version in ["v1", "v2"] {
        stage.release(version, "healthy");
    }
    site.deploy(&cx, &v("v1")).await.unwrap();
    let run = stage.path().join("site/run");
    for (name, record) in [("v0-a", "{\"schema\":1"), ("v0-b", ""), ("v0-c", "{\"schema\":2}")] {
        std::fs::create_dir(run.join(name)).unwrap();
        std::fs::write(run.join(name).join("instance.json"), record).unwrap();
    }
    assert_eq!(site.look().await.unwrap().instances.len(), 1);
    site.deploy(&cx, &v("v2")).await.unwrap();
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v2");

    // What runs must be known.
    let instance = stage.running().await.remove(0);
    let record = run.join(&instance.name).join("instance.json");
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(&record, "{").unwrap();
    let error = site.look().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&instance.name), "{error}");
    std::fs::write(&record, whole).unwrap();
    site.look().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_in_service_whose_folder_is_gone_can_be_replaced() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    let folder = stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    site.deploy(&cx, &v("v1")).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let observed = site.observe().await.unwrap();
    assert_eq!(observed.current, Some(v("v1")));
    assert_eq!(observed.versions, [v("v2")]);
    let error = site.rollback(&cx, Some(v("v1"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion, "{error}");
    site.deploy(&cx, &v("v2")).await.unwrap();
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v2");
    assert_eq!(stage.link().unwrap(), "releases/v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_deployers_in_processes_of_their_own_one_wins() {
    let stage = Stage::new().await;
    for version in ["v1", "v2", "v3"] {
        stage.release(version, "healthy");
    }
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let start = |version| {
        let mut program = Command::new(PROGRAM);
        program.arg("deploy").arg(stage.path()).arg(version).stderr(Stdio::piped());
        program.spawn().unwrap()
    };
    let rivals = ["v2", "v3"].map(|version| (version, start(version)));
    let mut won = Vec::new();
    for (version, rival) in rivals {
        let end = tokio::task::spawn_blocking(|| rival.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        match end.status.code() {
            Some(0) => won.push(version),
            // The holder is named: which process, and since when.
            Some(3) => assert!(
                said.contains("is locked by `deploy-test`, pid ") && said.contains(", since 20"),
                "{said}"
            ),
            code => panic!("{version} ended with {code:?}: {said}"),
        }
    }
    // Both may have had their turn, one after the other; what serves is the last one's.
    let serves = get(&http(), &stage.url("/health")).await.unwrap().1;
    assert!(won.contains(&serves.as_str()), "{serves} serves, {won:?} won");
    assert_eq!(stage.link().unwrap(), format!("releases/{serves}"));
    assert_eq!(stage.running().await.len(), 1);
}
