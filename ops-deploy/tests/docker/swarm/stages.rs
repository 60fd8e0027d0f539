//! Commands, migrations, builds and the watch over an update of a Swarm's services.

use super::*;

#[tokio::test]
async fn commands_migrations_builds_and_a_watch_belong_to_an_update() {
    let cluster = Cluster::new().await;
    let first = cluster.image("web", "a000001", "patient").await;
    cluster.image("web", "f000001", "patient").await;
    cluster.create("web", &first).await;
    let log = cluster.dir.path().join("log");
    let note = |name: &str| {
        let line = |what: &str| format!("echo {what} \"$1\" >> {}", log.display());
        let (run, undo) = (line(name), line(&format!("undo-{name}")));
        Hook::new(name, ["sh", "-c", &run, "sh", "{version}"]).undo([
            "sh",
            "-c",
            &undo,
            "sh",
            "{version}",
        ])
    };
    let noted = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        std::fs::remove_file(&log).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (engine, repository) = (crate::dock::engine(), format!("{}/web", cluster.application()));
    let (kept, new) = (format!("{repository}:f000001"), format!("{repository}:{{version}}"));
    let tag = ["docker", "--host", &engine, "tag", &kept, &new];
    let swarm = || {
        let bake = Bake::lasting(Duration::from_millis(600))
            .interval(Duration::from_millis(50))
            .latency(Duration::from_secs(5));
        cluster
            .builder("host")
            .service(cluster.web())
            .hook(When::BeforeStart, note("prepare"))
            .hook(When::BeforeSwitch, note("warm"))
            .hook(When::AfterSwitch, note("purge"))
            .hook(When::AfterCommit, note("tell"))
            .migration(Migration::new(note("schema")))
            .build_images(Hook::new("build", tag))
            .bake(bake)
            .build()
            .unwrap()
    };
    let cx = cluster.cx("host");
    swarm().deploy(&cx, &v("a000001")).await.unwrap();
    let all = ["prepare", "schema", "warm", "purge", "tell"].map(|name| format!("{name} a000001"));
    assert_eq!(noted(), all);
    // What is built says that it is another version: it does not pass, and stays as an image.
    let plan = swarm().plan_deploy(&v("a000002")).await.unwrap().to_string();
    assert!(plan.contains("build a000002, if it is not complete"), "{plan}");
    let error = swarm().deploy(&cx, &v("a000002")).await.unwrap_err();
    assert!(format!("{error:?}").contains("`f000001`, expected `a000002`"), "{error:?}");
    let forward = ["prepare", "schema", "warm"].map(|name| format!("{name} a000002"));
    let back = ["undo-warm", "undo-prepare"].map(|name| format!("{name} a000002"));
    assert_eq!(noted(), [&forward[..], &back].concat(), "the migration stays");
    assert_eq!(cluster.image_in_service("web").await, first);
    assert_eq!(swarm().observe().await.unwrap().current, Some(v("a000001")));

    // A watch sees what the tasks use.
    let hungry = Bake::lasting(Duration::from_secs(8))
        .interval(Duration::from_millis(20))
        .load(0.8, 0.000_000_1);
    let hungry = cluster.builder("host").service(cluster.web()).bake(hungry).build().unwrap();
    let error = hungry.deploy(&cx, &v("f000001")).await.unwrap_err();
    assert!(format!("{error:?}").contains("of its memory"), "{error:?}");
}

#[tokio::test]
async fn a_watch_leaves_out_what_other_nodes_run() {
    let cluster = Cluster::new().await;
    let first = cluster.image("web", "a000001", "patient").await;
    cluster.image("web", "a000002", "patient").await;
    cluster.create("web", &first).await;
    // To its manager the container of another node is not there.
    let socket = FaultSocket::in_folder(cluster.dir.path());
    let bake = Bake::lasting(Duration::from_secs(1))
        .interval(Duration::from_millis(100))
        .latency(Duration::from_secs(5));
    let swarm = crate::swarmed::builder(cluster.dir.path(), socket.address.clone(), "host")
        .service(cluster.web())
        .bake(bake)
        .build()
        .unwrap();
    let cx = cluster.cx("host");
    swarm.deploy(&cx, &v("a000001")).await.unwrap();
    socket.set(Fault::Absent("/stats"));
    swarm.deploy(&cx, &v("a000002")).await.unwrap();
    assert!(socket.requests().iter().any(|it| it.contains("/stats")), "it was asked");
    assert_eq!(swarm.observe().await.unwrap().current, Some(v("a000002")));
}

#[tokio::test]
async fn a_rollback_across_a_migration_asks_for_an_explicit_word() {
    let cluster = Cluster::new().await;
    let first = cluster.image("web", "a000001", "patient").await;
    cluster.image("web", "a000002", "patient").await;
    cluster.create("web", &first).await;
    let log = cluster.dir.path().join("log");
    let line = format!("echo \"$1\" >> {}", log.display());
    let run = Hook::new("schema", ["sh", "-c", &line, "sh", "{version}"]);
    // A rehearsal that says with its code that the old version could not run afterwards.
    let closes = Migration::new(run).rehearsal(Hook::new("rehearse", ["sh", "-c", "exit 3"]));
    let builder = || cluster.builder("host").service(cluster.web());
    let plain = builder().build().unwrap();
    let cx = cluster.cx("host");
    plain.deploy(&cx, &v("a000001")).await.unwrap();
    let strict = builder().migration(closes.clone()).build().unwrap();
    let error = strict.deploy(&cx, &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(!log.exists(), "it was only rehearsed");

    let approving = Context::builder(cluster.dir.path().join("host/state"))
        .environment(Environment::Development)
        .approver(ops_core::ApproveIf::new("me", |_: &_| true))
        .build();
    let bold = builder().migration(closes.allow_incompatible()).build().unwrap();
    bold.deploy(&approving, &v("a000002")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a000002\n");
    // Another machine, which has no record of its own, knows it from the Swarm.
    for machine in ["host", "elsewhere"] {
        let swarm = cluster.builder(machine).service(cluster.web()).build().unwrap();
        for to in [None, Some(v("a000001"))] {
            let error = swarm.rollback(&cluster.cx(machine), to.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoPrevious, "{machine}: {error:?}");
            if machine == "host" || to.is_some() {
                assert!(error.to_string().contains("schema"), "{machine}, {to:?}: {error}");
            }
            assert!(swarm.plan_emergency_rollback(to).await.is_err(), "not in an emergency");
        }
    }
    let target: &dyn Target = &plain;
    let plan = target.plan_rollback_across_migrations(None).await.unwrap();
    assert_eq!(plan.facts["across migration"], "schema of a000002");
    cx.execute(plan, &*target.world()).await.unwrap();
    assert_eq!(cluster.image_in_service("web").await, first);
}
