//! Services of a real Swarm of one node. There is no virtual address in it that needs the kernel's
//! IP_VS: the tasks are in the host's network.

mod stages;

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ConfigSpec, LocalNodeState, NetworkAttachmentConfig, NetworkCreateRequest, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, SwarmInitRequest, TaskSpec, TaskSpecContainerSpec,
    TaskSpecRestartPolicy,
};
use bollard::query_parameters::ListContainersOptionsBuilder;
use ops_core::{Context, Environment};
use ops_deploy::docker::SwarmBuilder;
use ops_deploy::{Bake, ErrorKind, Hook, Migration, SwarmService, Target, When};

use crate::fault_socket::{Fault, FaultSocket};
use crate::images::{docker, import};
use crate::stage::{new_application, remove_all, until, v};

/// The engine is one for all tests: whoever comes first makes it a Swarm.
async fn join() {
    until(async || {
        let docker = docker().await;
        let state = docker.info().await.unwrap().swarm.and_then(|it| it.local_node_state);
        if state == Some(LocalNodeState::ACTIVE) {
            return Ok(());
        }
        let init = SwarmInitRequest {
            listen_addr: Some("127.0.0.1:2377".into()),
            advertise_addr: Some("127.0.0.1".into()),
            ..Default::default()
        };
        let begun = docker.init_swarm(init).await;
        Err(format!("{state:?}, {begun:?}"))
    })
    .await;
}

struct Cluster {
    dir: tempfile::TempDir,
}

/// Removes an application from the Swarm.
pub async fn clear(application: &str) {
    for service in ["web", "bot"] {
        let _ = docker().await.delete_service(&format!("{application}_{service}")).await;
    }
    let _ = docker().await.delete_config(&format!("{application}.ops-lock")).await;
    remove_all(application).await;
}

/// A new application, whose service `web` has a port that is free for the moment, and in nobody
/// else's range.
pub async fn prepare(dir: &std::path::Path) {
    join().await;
    new_application(dir);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(dir.join("port"), port.to_string()).unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let application = self.application();
        let clear = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(crate::swarm::clear(&application));
        };
        std::thread::scope(|scope| drop(scope.spawn(clear).join()));
    }
}

impl Cluster {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).await;
        Self { dir }
    }

    fn application(&self) -> String {
        crate::dock::application(self.dir.path())
    }

    fn name(&self, service: &str) -> String {
        format!("{}_{service}", self.application())
    }

    async fn image(&self, service: &str, version: &str, mode: &str) -> String {
        import(&format!("{}/{service}:{version}", self.application()), mode, &[]).await
    }

    async fn create(&self, service: &str, image: &str) {
        create(self.dir.path(), service, image).await;
    }

    fn builder(&self, folder: &str) -> SwarmBuilder {
        crate::swarmed::builder(self.dir.path(), crate::dock::engine(), folder)
    }

    fn web(&self) -> SwarmService {
        crate::swarmed::web(self.dir.path())
    }

    fn bot(&self) -> SwarmService {
        SwarmService::new(self.name("bot"), format!("{}/bot", self.application()))
    }

    fn cx(&self, folder: &str) -> Context {
        Context::builder(self.dir.path().join(folder).join("state"))
            .environment(Environment::Development)
            .build()
    }

    async fn image_in_service(&self, service: &str) -> String {
        let service = docker().await.inspect_service(&self.name(service), None).await.unwrap();
        let task = service.spec.unwrap().task_template.unwrap();
        task.container_spec.unwrap().image.unwrap()
    }

    /// The container that runs.
    async fn container(&self, service: &str) -> Option<String> {
        let name = self.name(service);
        let filters = HashMap::from([("name", vec![name.as_str()])]);
        let options = ListContainersOptionsBuilder::default().filters(&filters).build();
        docker().await.list_containers(Some(options)).await.unwrap().pop()?.id
    }

    async fn index(&self, service: &str) -> u64 {
        let service = docker().await.inspect_service(&self.name(service), None).await.unwrap();
        service.version.unwrap().index.unwrap()
    }

    async fn lock(&self, until: &str) {
        let labels = [
            ("operation", "01JD2Q5W3V8Y7K6M4N9P0R1S2T"),
            ("who", "process 7 on `elsewhere`"),
            ("since", "2026-11-21T06:00:00Z"),
            ("until", until),
        ];
        let labels = labels.map(|(k, v)| (format!("ops-deploy.{k}"), v.to_owned()));
        let spec = ConfigSpec {
            name: Some(format!("{}.ops-lock", self.application())),
            labels: Some(HashMap::from(labels)),
            data: Some("bG9jaw==".into()),
            templating: None,
        };
        docker().await.create_config(spec).await.unwrap();
    }
}

/// What a team does once, by hand.
pub async fn create(dir: &std::path::Path, service: &str, image: &str) {
    let port = std::fs::read_to_string(dir.join("port")).unwrap();
    create_in(dir, service, image, "host", &port).await;
}

/// The same in another network, where it listens on another port.
async fn create_in(dir: &std::path::Path, service: &str, image: &str, network: &str, port: &str) {
    let spec = ServiceSpec {
        name: Some(format!("{}_{service}", crate::dock::application(dir))),
        labels: Some(HashMap::from([("team".to_owned(), "shop".to_owned())])),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(1) }),
            ..Default::default()
        }),
        task_template: Some(TaskSpec {
            container_spec: Some(TaskSpecContainerSpec {
                image: Some(image.to_owned()),
                args: Some(vec!["/serve".into(), port.into()]),
                env: Some(vec!["PASSWORD=correct horse".into()]),
                stop_signal: Some("SIGKILL".into()),
                ..Default::default()
            }),
            restart_policy: Some(TaskSpecRestartPolicy {
                delay: Some(100_000_000),
                ..Default::default()
            }),
            networks: Some(vec![NetworkAttachmentConfig {
                target: Some(network.into()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    };
    docker().await.create_service(spec, None).await.unwrap();
}

#[tokio::test]
async fn services_are_updated_and_go_back() {
    let cluster = Cluster::new().await;
    let first = cluster.image("web", "a000001", "patient").await;
    let second = cluster.image("web", "a000002", "patient").await;
    cluster.image("web", "b000001", "crash").await;
    let swarm = cluster.builder("host").service(cluster.web()).build().unwrap();
    let cx = cluster.cx("host");
    let error = swarm.plan_deploy(&v("a000001")).await.unwrap_err();
    assert!(error.to_string().contains("has no service"), "{error}");

    cluster.create("web", &first).await;
    swarm.deploy(&cx, &v("a000001")).await.unwrap();
    let report = swarm.deploy(&cx, &v("a000002")).await.unwrap();
    assert_eq!(report.outcome.name(), "completed");
    assert!(!format!("{report:?}").contains("correct horse"), "an environment is in no report");
    assert_eq!(cluster.image_in_service("web").await, second);
    let seen = swarm.observe().await.unwrap();
    assert_eq!((seen.current, seen.running.len()), (Some(v("a000002")), 1));
    assert!(swarm.plan_deploy(&v("a000002")).await.unwrap().is_empty());
    let service = docker().await.inspect_service(&cluster.name("web"), None).await.unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.labels.unwrap()["team"], "shop", "what is not ours stays");
    let container = spec.task_template.unwrap().container_spec.unwrap();
    assert_eq!(container.env.unwrap(), ["PASSWORD=correct horse"]);

    // What does not come up goes back by itself.
    let error = swarm.deploy(&cx, &v("b000001")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(format!("{error:?}").contains("does not come up"), "{error:?}");
    assert_eq!(cluster.image_in_service("web").await, second);
    assert_eq!(swarm.observe().await.unwrap().current, Some(v("a000002")));

    swarm.rollback(&cx, None).await.unwrap();
    assert_eq!(cluster.image_in_service("web").await, first);
    assert_eq!(swarm.rollback(&cx, None).await.unwrap_err().kind(), ErrorKind::NoPrevious);
    let lock = format!("{}.ops-lock", cluster.application());
    assert!(docker().await.inspect_config(&lock).await.is_err(), "the lock is given back");
}

#[tokio::test]
async fn services_of_different_versions_are_an_error() {
    let cluster = Cluster::new().await;
    for version in ["a000001", "a000002"] {
        cluster.image("web", version, "patient").await;
        cluster.image("bot", version, "worker").await;
    }
    for service in ["web", "bot"] {
        let image = format!("{}/{service}:a000001", cluster.application());
        let image = docker().await.inspect_image(&image).await.unwrap().id.unwrap();
        cluster.create(service, &image).await;
    }
    let both =
        cluster.builder("host").service(cluster.web()).service(cluster.bot()).build().unwrap();
    both.deploy(&cluster.cx("host"), &v("a000001")).await.unwrap();
    let one = cluster.builder("other").service(cluster.bot()).build().unwrap();
    one.deploy(&cluster.cx("other"), &v("a000002")).await.unwrap();
    let error = both.plan_deploy(&v("a000002")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCurrent);
    let told = error.to_string();
    assert!(told.contains(&format!("`{}` is a000002", cluster.name("bot"))), "{told}");
    assert!(told.contains(&format!("`{}` is a000001", cluster.name("web"))), "{told}");
    assert_eq!(both.observe().await.unwrap().current, None);
}

#[tokio::test]
async fn the_lock_names_its_holder_and_an_expired_one_has_one_heir() {
    let cluster = Cluster::new().await;
    let image = cluster.image("bot", "a000001", "worker").await;
    cluster.create("bot", &image).await;
    cluster.lock("2999-01-01T00:00:00Z").await;
    let machine = |name: &str| {
        let swarm = cluster.builder(name).service(cluster.bot()).build().unwrap();
        (swarm, cluster.cx(name))
    };
    let (swarm, cx) = machine("host");
    let refused = swarm.deploy(&cx, &v("a000001")).await.unwrap_err();
    assert_eq!(refused.report().unwrap().outcome.name(), "refused", "{refused:?}");
    let told = refused.to_string();
    let held = "process 7 on `elsewhere` holds the lock since 2026-11-21T06:00:00Z";
    assert!(told.contains(held), "{told}");

    let lock = format!("{}.ops-lock", cluster.application());
    docker().await.delete_config(&lock).await.unwrap();
    cluster.lock("2026-01-01T00:00:00Z").await;
    let before = cluster.index("bot").await;
    let mut planned = Vec::new();
    for n in 0..3 {
        let (swarm, cx) = machine(&format!("machine{n}"));
        planned.push((swarm.plan_deploy(&v("a000001")).await.unwrap(), swarm, cx));
    }
    let running = planned.into_iter().map(|(plan, swarm, cx)| {
        tokio::spawn(async move {
            cx.execute(plan, &*swarm.world()).await.map_err(|error| error.to_string())
        })
    });
    let (mut won, mut lost) = (0, Vec::new());
    for one in running.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(report) => won += usize::from(report.outcome.name() == "completed"),
            Err(why) => lost.push(why),
        }
    }
    assert_eq!((won, lost.len()), (1, 2), "{lost:?}");
    assert!(
        cluster.index("bot").await > before + 1,
        "the heir fences what the old one still sends"
    );
    assert_eq!(swarm.observe().await.unwrap().current, Some(v("a000001")));
}

#[tokio::test]
async fn another_machine_observes_and_converges() {
    let cluster = Cluster::new().await;
    let first = cluster.image("bot", "a000001", "worker").await;
    let second = cluster.image("bot", "a000002", "worker").await;
    let third = cluster.image("bot", "a000003", "worker").await;
    cluster.create("bot", &first).await;
    let machine = |name: &str| {
        let swarm = cluster.builder(name).service(cluster.bot()).build().unwrap();
        (swarm, cluster.cx(name))
    };
    let (here, cx) = machine("here");
    for version in ["a000001", "a000002"] {
        here.deploy(&cx, &v(version)).await.unwrap();
    }
    // It has no history of its own, and nothing of the first machine's files.
    let (there, there_cx) = machine("there");
    let seen = there.observe().await.unwrap();
    assert_eq!((seen.current, seen.running.len()), (Some(v("a000002")), 1));
    assert!(there.plan_deploy(&v("a000002")).await.unwrap().is_empty(), "there is nothing to do");
    there.deploy(&there_cx, &v("a000003")).await.unwrap();
    assert_eq!(cluster.image_in_service("bot").await, third);
    there.rollback(&there_cx, None).await.unwrap();
    assert_eq!(cluster.image_in_service("bot").await, second);

    // The first one sees it, knows the way back, and does not go forward to what was left.
    assert_eq!(here.observe().await.unwrap().current, Some(v("a000002")));
    here.rollback(&cx, None).await.unwrap();
    assert_eq!(cluster.image_in_service("bot").await, first);
    let status = there.look().await.unwrap();
    assert_eq!(status.history.latest(), Some(&v("a000001")));
    assert_eq!(there.rollback(&there_cx, None).await.unwrap_err().kind(), ErrorKind::NoPrevious);
}

/// A network of the nodes' own, which needs no IP_VS. Dropping it removes it and its services.
struct Bridge<'a>(&'a Cluster);

impl<'a> Bridge<'a> {
    async fn new(cluster: &'a Cluster) -> Self {
        let request = NetworkCreateRequest {
            name: cluster.application(),
            scope: Some("swarm".into()),
            driver: Some("bridge".into()),
            ..Default::default()
        };
        docker().await.create_network(request).await.unwrap();
        Self(cluster)
    }
}

impl Drop for Bridge<'_> {
    fn drop(&mut self) {
        let application = self.0.application();
        let remove = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                clear(&application).await;
                // Its last tasks may be in it yet.
                for _ in 0..200 {
                    if docker().await.remove_network(&application).await.is_ok() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        };
        std::thread::scope(|scope| drop(scope.spawn(remove).join()));
    }
}

#[tokio::test]
async fn published_ports_are_the_nodes_own_and_refused_where_they_are_taken() {
    let cluster = Cluster::new().await;
    let bridge = Bridge::new(&cluster).await;
    let first = cluster.image("web", "a000001", "healthy").await;
    cluster.image("web", "a000002", "healthy").await;
    create_in(cluster.dir.path(), "web", &first, &cluster.application(), "8080").await;
    let port: u16 =
        std::fs::read_to_string(cluster.dir.path().join("port")).unwrap().parse().unwrap();
    let cx = cluster.cx("host");
    let web = || cluster.web().publish(port, 8080);
    let swarm = |web| cluster.builder("host").service(web).build().unwrap();

    let somebody = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let error = swarm(web()).deploy(&cx, &v("a000001")).await.unwrap_err();
    let told: Vec<_> = error.reasons().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("is not free here"), "{told:?}");
    drop(somebody);
    swarm(web()).deploy(&cx, &v("a000001")).await.unwrap();

    // The one node has the port: a new task would wait for it for ever.
    let error = swarm(web()).deploy(&cx, &v("a000002")).await.unwrap_err();
    let told: Vec<_> = error.reasons().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("no new task can start beside"), "{told:?}");
    let plan = swarm(web().stop_first()).plan_deploy(&v("a000002")).await.unwrap().to_string();
    assert!(plan.contains("nobody answers in between"), "{plan}");
    swarm(web().stop_first()).deploy(&cx, &v("a000002")).await.unwrap();
    let service = docker().await.inspect_service(&cluster.name("web"), None).await.unwrap();
    let endpoint = service.spec.unwrap().endpoint_spec.unwrap();
    assert_eq!(endpoint.ports.unwrap().len(), 1);
    swarm(web().stop_first()).rollback(&cx, None).await.unwrap();
    assert_eq!(swarm(web()).observe().await.unwrap().current, Some(v("a000001")));
    drop(bridge);
}

#[tokio::test]
async fn what_a_deployer_sends_after_its_lock_was_taken_over_is_lost() {
    let cluster = Cluster::new().await;
    for version in ["a000001", "a000002", "a000003"] {
        cluster.image("bot", version, "worker").await;
    }
    let image = format!("{}/bot:a000001", cluster.application());
    cluster.create("bot", &docker().await.inspect_image(&image).await.unwrap().id.unwrap()).await;
    // One that is held up by a command of its own until its lock has expired.
    let waits = cluster.dir.path().join("waits");
    std::fs::write(&waits, "").unwrap();
    let line = format!("while test -e {}; do sleep 0.05; done", waits.display());
    let slow = cluster
        .builder("slow")
        .service(cluster.bot())
        .hook(When::BeforeSwitch, Hook::new("wait", ["sh", "-c", &line]))
        .deadline(Duration::from_secs(6))
        .lock_lease(Duration::from_millis(6001))
        .build()
        .unwrap();
    let cx = cluster.cx("slow");
    let running = tokio::spawn({
        let (slow, cx) = (slow.clone(), cx.clone());
        async move { slow.deploy(&cx, &v("a000002")).await }
    });
    until(async || match slow.lock_holder().await.unwrap() {
        Some(holder) if holder.who.contains(&std::process::id().to_string()) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    tokio::time::sleep(Duration::from_millis(6100)).await;
    let heir = cluster.builder("heir").service(cluster.bot()).build().unwrap();
    heir.deploy(&cluster.cx("heir"), &v("a000003")).await.unwrap();
    std::fs::remove_file(&waits).unwrap();
    running.await.unwrap().unwrap_err();
    assert_eq!(heir.observe().await.unwrap().current, Some(v("a000003")));
    assert_eq!(heir.lock_holder().await.unwrap(), None);
    let _ = ops_core::recover(&*slow.world(), &cluster.cx("slow")).await.unwrap();
    assert_eq!(heir.observe().await.unwrap().current, Some(v("a000003")));
}

#[tokio::test]
async fn failures_of_long_ago_do_not_stop_the_way_back() {
    let cluster = Cluster::new().await;
    let first = cluster.image("web", "a000001", "patient").await;
    cluster.image("web", "b000001", "crash").await;
    cluster.create("web", &first).await;
    let swarm = cluster.builder("host").service(cluster.web()).build().unwrap();
    let cx = cluster.cx("host");
    swarm.deploy(&cx, &v("a000001")).await.unwrap();
    // The old version crashes some times, and the engine starts it again each time.
    for _ in 0..4 {
        let mut before = String::new();
        until(async || {
            before = cluster.container("web").await.ok_or("no container runs")?;
            Ok(())
        })
        .await;
        docker().await.kill_container(&before, None).await.unwrap();
        until(async || match cluster.container("web").await {
            Some(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let error = swarm.deploy(&cx, &v("b000001")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!(swarm.observe().await.unwrap().current, Some(v("a000001")));
    assert_eq!(cluster.image_in_service("web").await, first);
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_not_free() {
    let cluster = Cluster::new().await;
    let image = cluster.image("bot", "a000001", "worker").await;
    cluster.create("bot", &image).await;
    cluster.lock("in the year of a newer program").await;
    let swarm = cluster.builder("host").service(cluster.bot()).build().unwrap();
    let refused = swarm.deploy(&cluster.cx("host"), &v("a000001")).await.unwrap_err();
    assert_eq!(refused.report().unwrap().outcome.name(), "refused", "{refused:?}");
    assert!(refused.to_string().contains("until when cannot be read"), "{refused}");
}
