use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ops_core::probe::{Health, Probe as _};
use ops_core::{Outcome, Plan};
use ops_deploy::release::Verb;
use ops_deploy::service::Liveness;
use ops_deploy::{Error, ErrorKind, Gate, MemorySwitch, Target, TrafficSwitch as _};

use crate::odd_switch::OddSwitch;
use crate::stage::{Stage, get, http, v};

fn versions(site: &[ops_core::Version]) -> Vec<&str> {
    site.iter().map(ops_core::Version::as_str).collect()
}

/// A gate for what fails anyway. Long enough for a version that is well, too.
fn impatient() -> Gate {
    Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(5))
        .deadline(Duration::from_secs(4))
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_under_load_lose_no_request() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    for version in ["v1", "v2", "v3", "v4"] {
        stage.release(version, "healthy");
    }
    assert_eq!(get(&http(), &stage.url("/")).await.unwrap().0, 503, "nothing is in service");
    let report = site.deploy(&cx, &v("v1")).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.event, "deploy_success");

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|n| {
            let (stop, asked, url) =
                (Arc::clone(&stop), Arc::clone(&asked), stage.url("/slow?ms=3"));
            tokio::spawn(async move {
                let (mut client, mut failures) = (http(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    // Two of four take a fresh connection for each request.
                    if n % 2 == 0 {
                        client = http();
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    match get(&client, &url).await {
                        Ok((200, ..)) => {}
                        other => failures.push(other),
                    }
                }
                failures
            })
        })
        .collect();
    for version in ["v2", "v3", "v4"] {
        site.deploy(&cx, &v(version)).await.unwrap();
        assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, version);
    }
    stop.store(true, Ordering::Relaxed);
    for client in load {
        assert_eq!(client.await.unwrap(), []);
    }
    assert!(asked.load(Ordering::Relaxed) > 50, "only {asked:?} requests");

    assert_eq!(stage.link().unwrap(), "releases/v4");
    let running = stage.running().await;
    assert_eq!(running.iter().map(|i| i.version.as_str()).collect::<Vec<_>>(), ["v4"]);
    let status = site.look().await.unwrap();
    assert_eq!(versions(&status.versions), ["v3", "v4"], "the others were cleaned up");
    let history = status.history.unwrap();
    assert_eq!(history.entries().len(), 4);
    assert_eq!(history.latest(), Some(&v("v4")));

    let nothing = site.plan_deploy(&v("v4")).await.unwrap();
    assert!(nothing.is_empty(), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_the_gate_leaves_the_old_untouched() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    let strict = stage.builder().gate(impatient()).build().unwrap();
    stage.release("v1", "healthy");
    site.deploy(&cx, &v("v1")).await.unwrap();
    let before = stage.running().await;
    let pointer = stage.client().status().await.unwrap().pointer;
    let folders = || std::fs::read_dir(stage.path().join("site/run")).unwrap().count();
    let (runs, history) = (folders(), site.look().await.unwrap().history);

    for (mode, cause) in [
        ("crash", "something is missing"),
        ("wrong", "header `x-version` is `somebody-else`, expected `v-wrong`"),
        ("silent", "503"),
    ] {
        let version = v(&format!("v-{mode}"));
        stage.release(version.as_str(), mode);
        let error = strict.deploy(&cx, &version).await.unwrap_err();
        let report = error.report().expect("a report");
        assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{report:?}");
        assert!(format!("{report:?}").contains(cause), "{mode}: {report:?}");
        assert_eq!(stage.running().await, before);
        assert_eq!(folders(), runs, "no trace of the instance");
        assert_eq!(stage.client().status().await.unwrap().pointer, pointer);
        assert_eq!(stage.link().unwrap(), "releases/v1");
        assert_eq!(site.look().await.unwrap().history, history);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_that_fails_leaves_nothing() {
    let stage = Stage::new().await;
    stage.release("v1", "wrong");
    let site = stage.builder().gate(impatient()).build().unwrap();
    site.deploy(&stage.cx(), &v("v1")).await.unwrap_err();
    assert_eq!(stage.link(), None);
    assert_eq!(stage.running().await, []);
    let status = stage.site().look().await.unwrap();
    assert_eq!((status.history, status.instances), (None, vec![]));
    assert_eq!(stage.client().status().await.unwrap().pointer.upstream, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_switch_takes_the_traffic_back() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let before = (stage.running().await, site_history(&stage).await);
    let upstream = stage.client().current().await.unwrap().upstream;
    // The public address is somebody else's, so verifying fails after traffic and symlink moved.
    let elsewhere = stage.running().await[0].address;
    let site = stage.builder().public_url(format!("http://{elsewhere}").parse().unwrap());
    let error =
        site.gate(impatient()).build().unwrap().deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    let told = format!("{:?}", error.report());
    assert!(told.contains("header `x-version` is `v1`, expected `v2`"), "{told}");
    assert_eq!((stage.running().await, site_history(&stage).await), before);
    assert_eq!(stage.client().current().await.unwrap().upstream, upstream);
    assert_eq!(stage.link().unwrap(), "releases/v1");
}

async fn site_history(stage: &Stage) -> Option<ops_deploy::release::History> {
    stage.site().look().await.unwrap().history
}

#[tokio::test(flavor = "multi_thread")]
async fn rollbacks_go_to_the_previous_or_a_named_version() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.builder().keep(9).build().unwrap(), stage.cx());
    for version in ["v1", "v2", "v3"] {
        stage.release(version, "healthy");
        site.deploy(&cx, &v(version)).await.unwrap();
    }
    let report = site.rollback(&cx, None).await.unwrap();
    assert_eq!(report.event, "rollback_success");
    assert_eq!(report.version, Some(v("v2")));
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v2");
    assert_eq!(stage.link().unwrap(), "releases/v2");
    // Not forward to v3, which was left.
    assert_eq!(site.rollback(&cx, None).await.unwrap().version, Some(v("v1")));
    let error = site.plan_rollback(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoPrevious);
    assert!(error.to_string().contains("name one of the complete versions: v2, v3"), "{error}");

    site.rollback(&cx, Some(v("v3"))).await.unwrap();
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v3");
    let verbs: Vec<_> =
        site_history(&stage).await.unwrap().entries().iter().map(|e| e.verb).collect();
    assert_eq!(verbs[3..], [Verb::Rollback; 3]);

    let error = site.plan_rollback(Some(v("v9"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion);
    assert!(error.to_string().ends_with("; complete versions: v1, v2, v3"), "{error}");
    assert_eq!(stage.running().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_a_warm_version_starts_nothing() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.builder().keep_previous_warm(true).build().unwrap(), stage.cx());
    for version in ["v1", "v2", "v3"] {
        stage.release(version, "healthy");
        site.deploy(&cx, &v(version)).await.unwrap();
    }
    let before = stage.running().await;
    assert_eq!(before.iter().map(|i| i.version.as_str()).collect::<Vec<_>>(), ["v2", "v3"]);
    site.rollback(&cx, None).await.unwrap();
    assert_eq!(stage.running().await, before, "the same two processes");
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_deployers_one_wins() {
    let stage = Stage::new().await;
    for version in ["v1", "v2", "v3"] {
        stage.release(version, "healthy");
    }
    let site = stage.site();
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    // Different state directories: what excludes them is the site.
    let (one, two) = (
        stage.cx(),
        ops_core::Context::builder(stage.path().join("other"))
            .environment(ops_core::Environment::Development)
            .build(),
    );
    let plan = |name: &str| {
        let (site, name) = (site.clone(), v(name));
        async move { site.plan_deploy(&name).await.unwrap() }
    };
    let (a, b): (Plan, Plan) = (plan("v2").await, plan("v3").await);
    let world = &site;
    let (a, b) = tokio::join!(one.execute(a, &world), two.execute(b, &world));
    let winner = match (&a, &b) {
        (Ok(_), Err(lost)) => {
            assert!(
                lost.report().is_none_or(|r| matches!(r.outcome, Outcome::Refused { .. })),
                "{lost}"
            );
            "v2"
        }
        (Err(lost), Ok(_)) => {
            assert!(
                lost.report().is_none_or(|r| matches!(r.outcome, Outcome::Refused { .. })),
                "{lost}"
            );
            "v3"
        }
        both => panic!("{both:?}"),
    };
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, winner);
    assert_eq!(stage.link().unwrap(), format!("releases/{winner}"));
    assert_eq!(stage.running().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_died_is_brought_back_or_replaced() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    stage.release("v1", "healthy");
    stage.release("v2", "silent");
    site.deploy(&cx, &v("v1")).await.unwrap();
    crate::stage::end_all(stage.path());
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().0, 502);
    let Health::Unhealthy { reason } = site.health().check().await else { panic!("it is well") };
    assert!(reason.starts_with("v1 is in service, but http://"), "{reason}");
    assert!(reason.contains("answered with status 502"), "{reason}");

    // Going back from a failed deployment returns to what was: v1, dead, and nothing else.
    let strict = stage.builder().gate(impatient()).build().unwrap();
    strict.deploy(&cx, &v("v2")).await.unwrap_err();
    assert_eq!(stage.running().await, []);
    assert_eq!(stage.link().unwrap(), "releases/v1");

    let plan = site.plan_deploy(&v("v1")).await.unwrap();
    assert!(!plan.is_empty(), "the version in service is not well");
    cx.execute(plan, &&site).await.unwrap();
    assert_eq!(get(&http(), &stage.url("/health")).await.unwrap().1, "v1");
    assert_eq!(site.health().check().await, Health::Healthy);
    assert_eq!(stage.running().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ignores_the_asking_is_ended() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    stage.release("v1", "stubborn");
    stage.release("v2", "healthy");
    site.deploy(&cx, &v("v1")).await.unwrap();
    site.deploy(&cx, &v("v2")).await.unwrap();
    let running = stage.running().await;
    assert_eq!(running.iter().map(|i| i.version.as_str()).collect::<Vec<_>>(), ["v2"]);
    assert!(matches!(running[0].liveness, Liveness::Running(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_itself_is_refused_with_what_runs() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.site(), stage.cx());
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    site.deploy(&cx, &v("v1")).await.unwrap();
    ops_core::fs::symlink_swap(&stage.path().join("site/current"), "releases/v2".as_ref()).unwrap();
    let error = site.plan_rollback(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCurrent);
    let text = error.to_string();
    assert!(text.starts_with("cannot determine the current version (running=v1-"), "{text}");
    assert!(text.contains("`current` names v2, but the traffic goes to v1"), "{text}");
    let observed = Target::observe(&site).await.unwrap();
    assert_eq!((observed.current, observed.contradictions.len()), (None, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_history_is_rebuilt() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.builder().keep(9).build().unwrap(), stage.cx());
    for version in ["v1", "v2"] {
        stage.release(version, "healthy");
        site.deploy(&cx, &v(version)).await.unwrap();
    }
    std::fs::remove_file(stage.path().join("site/history.json")).unwrap();
    stage.release("v3", "healthy");
    site.deploy(&cx, &v("v3")).await.unwrap();
    let history = site_history(&stage).await.unwrap();
    let way: Vec<_> = history.way_back().into_iter().map(ops_core::Version::as_str).collect();
    assert_eq!(way, ["v3", "v2", "v1"]);
    site.rollback(&cx, None).await.unwrap();
    assert_eq!(stage.link().unwrap(), "releases/v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_needs_no_traffic_and_a_release_its_files() {
    let stage = Stage::without_proxy();
    let site = stage.builder().required_files(["mode"]).build().unwrap();
    let folder = stage.release("v1", "healthy");
    std::fs::remove_file(folder.join("mode")).unwrap();
    let error = site.deploy(&stage.cx(), &v("v1")).await.unwrap_err();
    assert!(format!("{:?}", error.report()).contains("it lacks `mode`"), "{error:?}");
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    site.deploy(&stage.cx(), &v("v2")).await.unwrap();
    let running = stage.running().await;
    assert_eq!(running.iter().map(|i| i.version.as_str()).collect::<Vec<_>>(), ["v2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_in_memory_serves_a_users_test() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    let site = stage.builder().traffic(MemorySwitch::new()).build().unwrap();
    let target: &dyn Target = &site;
    target.deploy(&stage.cx(), &v("v1")).await.unwrap();
    let observed = target.status().await.unwrap();
    assert_eq!(observed.current, Some(v("v1")));
    assert!(observed.running[0].in_traffic);
}

/// The answer to the first request is lost; it arrives only when it is let through.
fn unanswered() -> OddSwitch {
    OddSwitch::new(|| {
        let lost = Error::new(ErrorKind::Proxy, "the proxy did not answer")
            .class_of(ops_core::Class::OutcomeUnknown);
        Box::pin(async { Err(lost) })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_arrives_while_going_back_is_taken_back() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    // It waited in the socket of a deployer that has gone on, or died.
    let late = unanswered().late();
    let site = stage.builder().traffic(late.clone()).build().unwrap();
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    let error = site.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{report:?}");
    let pointer = late.inner.pointer();
    assert!(pointer.upstream.unwrap().instance.starts_with("v1-"));
    assert_eq!(pointer.epoch, 3, "there, and back again");
    assert_eq!(stage.running().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_arrives_after_going_back_is_refused() {
    let stage = Stage::without_proxy();
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    let late = unanswered();
    let site = stage.builder().traffic(late.clone()).build().unwrap();
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    site.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    let (epoch, to) = late.first.lock().unwrap().clone().unwrap();
    let arrived = late.inner.switch(epoch, to.as_ref()).await;
    assert_eq!(arrived.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(late.inner.pointer().upstream.unwrap().instance.starts_with("v1-"));
    assert_eq!(stage.running().await.len(), 1);
}

#[tokio::test]
async fn a_plan_reads_like_what_it_does() {
    let stage = Stage::without_proxy();
    let site = stage.builder().traffic(MemorySwitch::new()).build().unwrap();
    let plan = site.plan_deploy(&v("1a2b3c4")).await.unwrap().to_string();
    let (text, _digest) = plan.split_once("  digest").unwrap();
    let expected = "\
deploy 1a2b3c4
  to: 1a2b3c4
  changes
    1. reads    see that no version is in service
    2. reads    see that release 1a2b3c4 is complete
    3. changes  start 1a2b3c4 beside what runs
    4. reads    see that the new instance answers as 1a2b3c4
    5. changes  send new requests to 1a2b3c4
    6. changes  point `current` to releases/1a2b3c4
    7. changes  record the deploy of 1a2b3c4 in the history
  after the commit
    8. changes  let what is not the new 1a2b3c4 answer its last requests, and stop it (a rollback starts it again)
    9. changes  remove no release, but what earlier clean-ups left
";
    assert_eq!(text, expected);
}

#[test]
fn what_users_hold_is_an_object_and_crosses_threads() {
    fn crosses<T: Send + Sync + ?Sized>() {}
    crosses::<dyn Target>();
    crosses::<dyn ops_deploy::TrafficSwitch>();
    crosses::<dyn ops_deploy::ServiceManager>();
    crosses::<ops_deploy::ReleaseDirectory>();
    crosses::<ops_deploy::ProxyClient>();
    crosses::<Error>();
}
