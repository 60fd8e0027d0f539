//! Several hosts: all of them, or none. Two applications of one engine stand for two engines.

use std::sync::Mutex;
use std::time::Duration;

use ops_core::event::{Event, Observer};
use ops_core::probe::{FnProbe, Health};
use ops_core::{Context, Environment};
use ops_deploy::{DockerHost, DockerHosts, ErrorKind, Gate, Target};

use crate::fault_socket::{Fault, FaultSocket};
use crate::images::import;
use crate::stage::{Dock, v};

/// Two hosts, whose images come from one registry.
struct Pair {
    one: Dock,
    other: Dock,
}

impl Pair {
    async fn new() -> Self {
        Self { one: Dock::new().await, other: Dock::new().await }
    }

    fn repository(&self) -> String {
        format!("{}/web", self.one.application())
    }

    fn host(&self, dock: &Dock, sick: bool) -> DockerHost {
        self.host_at(dock, crate::dock::engine(), sick)
    }

    fn host_at(&self, dock: &Dock, engine: String, sick: bool) -> DockerHost {
        let mut web = crate::dock::web(dock.path());
        web.repository = self.repository();
        let gate = Gate::default().consecutive(2).deadline(Duration::from_secs(8));
        let builder = crate::dock::bare(dock.path(), engine).gate(gate).service(web);
        let never = FnProbe::new("never", || async { Health::unhealthy("not today") });
        if sick { builder.guard(never) } else { builder }.build().unwrap()
    }

    fn both(&self, sick: bool) -> DockerHosts {
        DockerHosts::new([self.host(&self.one, false), self.host(&self.other, sick)]).unwrap()
    }

    async fn public(&self) -> (String, String) {
        (self.one.public_version().await, self.other.public_version().await)
    }
}

fn both(version: &str) -> (String, String) {
    (version.to_owned(), version.to_owned())
}

#[tokio::test]
async fn a_version_comes_to_all_hosts_or_to_none() {
    let pair = Pair::new().await;
    let cx = pair.one.cx();
    for version in ["a000001", "a000002", "a000003"] {
        import(&format!("{}:{version}", pair.repository()), "healthy", &[]).await;
    }
    let hosts = pair.both(false);
    let plan = hosts.plan_deploy(&v("a000001")).await.unwrap();
    let names: Vec<_> = plan.changes.iter().map(|step| step.name.as_str()).collect();
    let last_gate = names.iter().rposition(|name| *name == "pass_gate").unwrap();
    let first_switch = names.iter().position(|name| *name == "switch_traffic").unwrap();
    assert!(last_gate < first_switch, "{names:?}");
    hosts.deploy(&cx, &v("a000001")).await.unwrap();
    assert_eq!(pair.public().await, both("a000001"));
    assert!(hosts.plan_deploy(&v("a000001")).await.unwrap().is_empty());

    // The second host does not let it pass: the first one has not even switched.
    let error = pair.both(true).deploy(&cx, &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(format!("{error:?}").contains("not today"), "{error:?}");
    assert_eq!(pair.public().await, both("a000001"));
    for dock in [&pair.one, &pair.other] {
        assert_eq!(dock.names().await.len(), 1, "{:?}", dock.names().await);
    }

    hosts.deploy(&cx, &v("a000002")).await.unwrap();
    assert_eq!(pair.public().await, both("a000002"));
    hosts.rollback(&cx, None).await.unwrap();
    assert_eq!(pair.public().await, both("a000001"));
    assert_eq!(hosts.observe().await.unwrap().current, Some(v("a000001")));
}

#[tokio::test]
async fn hosts_of_different_versions_are_an_error_and_a_deployment_brings_them_together() {
    let pair = Pair::new().await;
    for version in ["a000001", "a000002"] {
        import(&format!("{}:{version}", pair.repository()), "healthy", &[]).await;
    }
    let (hosts, cx) = (pair.both(false), pair.one.cx());
    hosts.deploy(&cx, &v("a000001")).await.unwrap();
    pair.host(&pair.other, false).deploy(&pair.other.cx(), &v("a000002")).await.unwrap();
    let seen = hosts.observe().await.unwrap();
    assert_eq!((seen.current, seen.running.len()), (None, 2));
    let reason = &seen.contradictions[0].reason;
    assert!(
        reason.contains("a000001 on docker:") && reason.contains("a000002 on docker:"),
        "{reason}"
    );
    let error = hosts.plan_rollback(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCurrent, "{error:?}");
    hosts.deploy(&cx, &v("a000002")).await.unwrap();
    assert_eq!(pair.public().await, both("a000002"));
    assert_eq!(hosts.observe().await.unwrap().current, Some(v("a000002")));
}

#[tokio::test]
async fn hosts_with_different_images_of_a_version_are_refused() {
    let pair = Pair::new().await;
    let own = |dock: &Dock| dock.builder().service(crate::dock::web(dock.path())).build().unwrap();
    pair.one.image("a000001", "healthy").await;
    pair.other.image("a000001", "healthy").await;
    let hosts = DockerHosts::new([own(&pair.one), own(&pair.other)]).unwrap();
    let error = hosts.plan_deploy(&v("a000001")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion);
    assert!(error.to_string().contains("the image of web differs between the hosts"), "{error}");
    let twice = DockerHosts::new([own(&pair.one), own(&pair.one)]).unwrap_err();
    assert!(twice.to_string().contains("2 hosts are given, 1 different ones"), "{twice}");
    assert!(DockerHosts::new([]).is_err());
}

/// The second host is gone from this moment on.
#[derive(Debug)]
struct Leaves {
    socket: FaultSocket,
    when: &'static str,
    left: Mutex<bool>,
}

impl Observer for Leaves {
    fn event(&self, event: &Event<'_>) {
        let now = match event {
            Event::StepDone { step, .. } => step.name.as_str(),
            Event::Committed { .. } => "committed",
            _ => return,
        };
        let mut left = self.left.lock().unwrap();
        if now == self.when && !*left {
            *left = true;
            self.socket.set(Fault::GoneFrom(0));
        }
    }
}

/// Deploys the second version to a pair whose second host leaves; answers the outcome, what the
/// public hears then, and what it hears after a recovery on the host's return.
async fn leaves(when: &'static str) -> (String, (String, String), (String, String)) {
    let pair = Pair::new().await;
    for version in ["a000001", "a000002"] {
        import(&format!("{}:{version}", pair.repository()), "healthy", &[]).await;
    }
    let socket = FaultSocket::new(&pair.other);
    let other = pair.host_at(&pair.other, socket.address.clone(), false);
    let hosts = DockerHosts::new([pair.host(&pair.one, false), other]).unwrap();
    hosts.deploy(&pair.one.cx(), &v("a000001")).await.unwrap();
    let builder = Context::builder(pair.one.path().join("state"))
        .environment(Environment::Development)
        .program("docker-test")
        .undo_budget(Duration::from_secs(6))
        .finish_budget(Duration::from_secs(1));
    let cx =
        builder.observer(Leaves { socket: socket.clone(), when, left: Mutex::default() }).build();
    let outcome = match hosts.deploy(&cx, &v("a000002")).await {
        Ok(report) => report.outcome.name(),
        Err(error) => error.report().unwrap().outcome.name(),
    };
    let meanwhile = pair.public().await;
    socket.set(Fault::None);
    let world = hosts.world();
    let recovered = ops_core::recover(&*world, &pair.one.cx()).await.unwrap();
    assert_eq!(recovered.reports.len(), 1, "{recovered:?}");
    let current = hosts.observe().await.unwrap().current;
    assert_eq!(current, Some(v(&pair.one.public_version().await)));
    for dock in [&pair.one, &pair.other] {
        assert_eq!(dock.running().await.len(), 1);
        assert!(!dock.names().await.iter().any(|name| name.contains("lock")));
    }
    (outcome.to_owned(), meanwhile, pair.public().await)
}

#[tokio::test]
async fn a_host_that_leaves_before_the_commit_goes_back_on_its_return_and_the_others_at_once() {
    // The first host has its new version in traffic already; the second still has its old one.
    let (outcome, meanwhile, after) = leaves("switch_traffic").await;
    assert_eq!(outcome, "needs_person");
    assert_eq!(meanwhile, both("a000001"));
    assert_eq!(after, both("a000001"));
}

#[tokio::test]
async fn a_host_that_leaves_after_the_commit_goes_forward_on_its_return() {
    let (outcome, meanwhile, after) = leaves("committed").await;
    assert_eq!(outcome, "finishers_pending");
    assert_eq!(meanwhile, both("a000002"));
    assert_eq!(after, both("a000002"));
}
