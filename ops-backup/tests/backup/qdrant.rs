//! Collections of a server that speaks Qdrant's interface: backed up, restored, and what goes wrong.

use std::time::{Duration, Instant};

use hyper::Method;
use ops_backup::{
    Depth, DrillOptions, Error, Manifest, Qdrant, QdrantOptions, QdrantUrl, RestoreOptions,
    SourceSpec, Vault,
};
use ops_core::{ApproveIf, Context, Environment, Outcome};

use crate::fixture::{Scene, builder, lenient};
use crate::qdrant_server::{Server, Trouble};

/// A server with a collection `docs_1` of 500 points, for which alias `docs` stands.
struct Docs {
    scene: Scene,
    server: Server,
}

impl Docs {
    async fn new() -> Self {
        let (scene, server) = (Scene::new().await, Server::start(None).await);
        server.fill("docs_1", 500);
        server.alias("docs", "docs_1");
        Self { scene, server }
    }

    fn url(&self, name: &str) -> QdrantUrl {
        self.server.url(name).parse().unwrap()
    }

    async fn back_up(&self) -> Result<Manifest, Error> {
        let Scene { vault, cx, .. } = &self.scene;
        vault.create("s", &[SourceSpec::qdrant(self.url("docs"))], cx).await
    }

    async fn restore(&self, made: &Manifest, to: &str) -> Result<ops_core::Report, Error> {
        let options = QdrantOptions::default().patience(Duration::from_mins(1));
        self.restore_with(made, to, &options).await
    }

    async fn restore_with(
        &self,
        made: &Manifest,
        to: &str,
        options: &QdrantOptions,
    ) -> Result<ops_core::Report, Error> {
        let Scene { vault, cx, .. } = &self.scene;
        let place = vault.collection(&self.url(to)).await?;
        vault.restore_collection("s", made.id, &place, options, cx).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_comes_back_behind_its_alias_and_under_a_new_name() {
    let docs = Docs::new().await;
    let (server, vault) = (&docs.server, &docs.scene.vault);
    let before = server.content("docs").unwrap();
    let made = docs.back_up().await.unwrap();
    assert!(server.snapshots().is_empty(), "the snapshot is deleted");
    let facts = &made.sources[0].facts;
    assert_eq!(
        (&*facts["points"], &*facts["server"], &*facts["collection"]),
        ("500", "1.12.4", "docs_1")
    );
    assert!(vault.verify("s", made.id, Depth::Full).await.unwrap().is_whole());
    assert_eq!(
        docs.back_up().await.unwrap().sources[0].units[1].chunks,
        made.sources[0].units[1].chunks
    );

    // The alias stands for the restored one, and the old one is kept.
    server.fill("docs_1", 3);
    let damaged = server.content("docs_1").unwrap();
    let report = docs.restore(&made, "docs").await.unwrap();
    let restored = format!("docs_restore_{}", report.id.to_string().to_lowercase());
    assert_eq!(server.aliases()["docs"], restored);
    assert_eq!(server.content("docs").unwrap(), before);
    assert_eq!(server.content("docs_1").unwrap(), damaged);
    assert!(server.snapshots().is_empty(), "what was uploaded does not stay");

    // A name that nothing has becomes a collection; a collection is not replaced.
    docs.restore(&made, "é copy").await.unwrap();
    assert_eq!(server.content("é copy").unwrap(), before);
    assert_eq!(server.aliases().len(), 1);
    let error = docs.restore(&made, "docs_1").await.unwrap_err();
    assert!(
        error.to_string().contains("`docs_1` is a collection, which cannot be replaced"),
        "{error}"
    );
    assert_eq!(server.content("docs_1").unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_server_does_to_a_backup_none_is_torn_and_no_snapshot_stays() {
    let docs = Docs::new().await;
    let (server, Scene { vault, .. }) = (&docs.server, &docs.scene);
    for (method, path, trouble, times, why) in [
        (Method::GET, "/collections/docs", Trouble::Status(404), 1, "no collection `docs`"),
        (
            Method::POST,
            "/snapshots",
            Trouble::Status(500),
            1,
            "500 Internal Server Error: Service internal",
        ),
        (Method::POST, "/snapshots", Trouble::Lost, 1, "make a snapshot"),
        (Method::GET, ".snapshot", Trouble::Status(500), 1, "download snapshot"),
        (Method::GET, ".snapshot", Trouble::Status(404), 1, "download snapshot"),
        (Method::GET, ".snapshot", Trouble::CutShort, 1, "download snapshot"),
        (Method::GET, ".snapshot", Trouble::Flipped, 1, "its SHA-256 is"),
        (Method::GET, "/snapshots", Trouble::Status(503), 1, "list the snapshots"),
        (Method::POST, "/count", Trouble::Status(500), 9, "count the points"),
    ] {
        server.trouble(method.clone(), path, trouble, times);
        let error = docs.back_up().await.unwrap_err();
        let told = ops_core::error::chain(&error).join(": ");
        assert!(told.contains(why), "{method} {path} {trouble:?}: {told}");
        let outcome = &error.report().unwrap().outcome;
        assert!(!matches!(outcome, Outcome::NeedsPerson { .. }), "{path} {trouble:?}: {outcome:?}");
        server.no_trouble();
        assert!(server.snapshots().is_empty(), "{path} {trouble:?}: {:?}", server.snapshots());
    }
    assert!(vault.list("s").await.unwrap().is_empty());

    // What only delays is waited for, and what may be asked twice is.
    server.trouble(Method::GET, "/aliases", Trouble::Status(503), 2);
    server.trouble(Method::DELETE, ".snapshot", Trouble::Status(500), 2);
    docs.back_up().await.unwrap();
    assert!(server.snapshots().is_empty());
    // A snapshot that cannot be deleted is no reason to lose the backup; it is named.
    server.trouble(Method::DELETE, ".snapshot", Trouble::Status(403), 9);
    let made = docs.back_up().await.unwrap();
    assert_eq!(made.sources[0].facts["snapshot left on the server"], server.snapshots()[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_has_its_time_and_no_more() {
    let docs = Docs::new().await;
    let vault = async |patience| -> Vault {
        let source = Qdrant::new(docs.url("docs")).patience(patience);
        let vault = builder().source("docs", source);
        vault.open(docs.scene.store.clone(), "memory:test").await.unwrap()
    };
    let spec = [SourceSpec::named("docs")];
    docs.server.trouble(Method::POST, "/snapshots", Trouble::Slow(Duration::from_millis(20)), 1);
    vault(Duration::from_mins(1)).await.create("s", &spec, &docs.scene.cx).await.unwrap();
    docs.server.trouble(Method::POST, "/snapshots", Trouble::Slow(Duration::from_hours(1)), 1);
    let vault = vault(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let error = vault.create("s", &spec, &docs.scene.cx).await.unwrap_err();
    assert!(error.to_string().contains("does not answer within 200ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_mins(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_goes_wrong_leaves_the_alias_and_nothing_else() {
    let docs = Docs::new().await;
    let server = &docs.server;
    let made = docs.back_up().await.unwrap();
    let (before, aliases) = (server.content("docs"), server.aliases());
    for (method, path, trouble, times, why) in [
        (Method::POST, "/upload", Trouble::Status(500), 1, "restore collection"),
        (Method::POST, "/upload", Trouble::Lost, 1, "restore collection"),
        (Method::POST, "/upload", Trouble::Forgetful, 1, "499 points instead of 500"),
        (Method::POST, "/upload", Trouble::Red, 1, "is red"),
        (
            Method::POST,
            "/collections/aliases",
            Trouble::Status(500),
            1,
            "let alias `docs` stand for",
        ),
        // The alias was moved, and nobody said so.
        (Method::POST, "/collections/aliases", Trouble::Lost, 1, "stand for"),
    ] {
        for to in ["docs", "fresh"] {
            if to == "fresh" && path.ends_with("aliases") {
                continue;
            }
            server.trouble(method.clone(), path, trouble, times);
            let result = docs.restore(&made, to).await;
            server.no_trouble();
            let error = result.unwrap_err();
            let told = ops_core::error::chain(&error).join(": ");
            assert!(told.contains(why), "{path} {trouble:?}: {told}");
            let outcome = &error.report().unwrap().outcome;
            assert!(
                matches!(outcome, Outcome::RolledBack { .. }),
                "{path} {trouble:?}: {outcome:?}"
            );
            assert_eq!(
                (server.content("docs"), server.aliases()),
                (before.clone(), aliases.clone())
            );
            assert_eq!(server.collections(), ["docs_1"], "{path} {trouble:?}");
        }
    }
    docs.restore(&made, "docs").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_drilled_in_scratch_beside_files() {
    let docs = Docs::new().await;
    let Scene { vault, cx, .. } = &docs.scene;
    let specs = [SourceSpec::qdrant(docs.url("docs")), docs.scene.spec()];
    let made = vault.create("s", &specs, cx).await.unwrap();
    let error = vault.drill("s", made.id, cx).await.unwrap_err();
    assert!(error.to_string().contains("name a Qdrant server for scratch"), "{error}");
    let other = Server::start(None).await;
    let options = DrillOptions::default().collection(other.url("any").parse().unwrap());
    let drill = async || vault.drill_with("s", made.id, &options, cx).await;
    let found = drill().await.unwrap();
    assert!(found.whole && found.rows == 500, "{found:?}");
    assert!(other.collections().is_empty() && other.snapshots().is_empty());
    // What is restored and is not the same is attested; what was not restored is not.
    other.trouble(Method::POST, "/upload", Trouble::Forgetful, 1);
    let found = drill().await.unwrap();
    assert!(!found.whole && found.problems[0].contains("499 points instead of 500"), "{found:?}");
    other.trouble(Method::POST, "/upload", Trouble::Status(507), 1);
    let error = drill().await.unwrap_err();
    assert!(error.to_string().contains("507"), "{error}");
    assert!(other.collections().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_every_reason() {
    let docs = Docs::new().await;
    let (server, Scene { vault, dir, .. }) = (&docs.server, &docs.scene);
    let made = docs.back_up().await.unwrap();
    server.version("1.9.0");
    server.peers(3);
    let error = docs.restore(&made, "fresh").await.unwrap_err().to_string();
    assert!(error.contains("the backup is of Qdrant 1.12.4, the target has 1.9.0"), "{error}");
    assert!(error.contains("one of 3 servers that share their data"), "{error}");
    let error = docs.back_up().await.unwrap_err().to_string();
    assert!(error.contains("one of 3 servers that share their data"), "{error}");
    server.version("1.13.0");
    server.peers(1);
    let other = Docs::new().await;
    let place = vault.collection(&other.url("docs")).await.unwrap();
    let options = QdrantOptions::default();
    let error = vault.plan_collection_restore("s", made.id, &place, &options).await.unwrap_err();
    assert!(error.to_string().contains("the backup is of `http://"), "{error}");
    let allowed = options.clone().allow_other_source();
    let plan = vault.plan_collection_restore("s", made.id, &place, &allowed).await.unwrap();
    let staging = Context::builder(dir.path().join("st"))
        .environment(Environment::Staging)
        .approver(ApproveIf::new("test", |_: &_| true))
        .build();
    let error = staging.execute(plan.clone(), &&place).await.unwrap_err().to_string();
    assert!(error.contains("made in development, this is staging"), "{error}");
    let production = Context::new(dir.path().join("production"));
    let error = production.execute(plan, &&place).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    assert_eq!(other.server.aliases()["docs"], "docs_1");
    // A collection is no file, and a file no collection.
    assert!(vault.place(&SourceSpec::qdrant(docs.url("docs"))).is_err());
    let file = vault.place(&SourceSpec::file(dir.path().join("file"))).unwrap();
    let plan = vault.plan_restore("s", made.id, &file, &RestoreOptions::default()).await;
    assert!(plan.unwrap_err().to_string().contains("of kind `qdrant`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_restore_blocks_the_next_one_until_it_is_recovered() {
    let docs = Docs::new().await;
    let Scene { vault, cx, .. } = &docs.scene;
    let made = docs.back_up().await.unwrap();
    docs.server.trouble(Method::POST, "/upload", Trouble::Slow(Duration::from_hours(1)), 1);
    let begun = Instant::now();
    tokio::select! {
        ended = docs.restore(&made, "docs") => panic!("it is under way: {ended:?}"),
        () = async {
            while docs.server.has_trouble() {
                assert!(begun.elapsed() < Duration::from_mins(2), "nothing was uploaded");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    docs.server.no_trouble();
    let error = docs.restore(&made, "docs").await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    let text = error.to_string();
    assert!(text.contains("is not finished") && text.contains("recover"), "{text}");
    let place = vault.collection(&docs.url("docs")).await.unwrap();
    let recovered = ops_core::recover(&(vault, &place), cx).await.unwrap();
    assert_eq!(recovered.reports.len(), 1);
    assert_eq!(docs.server.collections(), ["docs_1"]);
    docs.restore(&made, "docs").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_stands_for_what_a_restore_kept_again() {
    let docs = Docs::new().await;
    let (server, Scene { vault, cx, .. }) = (&docs.server, &docs.scene);
    let made = docs.back_up().await.unwrap();
    let report = docs.restore(&made, "docs").await.unwrap();
    let place = vault.collection(&docs.url("docs")).await.unwrap();
    let undo = |kept: &str| vault.plan_undo_collection_restore(&place, report.id, kept).unwrap();
    let error = cx.execute(undo("docs_0"), &&place).await.unwrap_err().to_string();
    assert!(error.contains("there is no collection `docs_0`"), "{error}");
    cx.execute(undo("docs_1"), &&place).await.unwrap();
    assert_eq!(server.aliases()["docs"], "docs_1");
    assert_eq!(server.collections().len(), 2, "the restored one stays");
    let error = cx.execute(undo("docs_1"), &&place).await.unwrap_err().to_string();
    assert!(error.contains("does not stand for `docs_restore_"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_from_a_file_and_is_told_nowhere() {
    let (scene, server) = (Scene::new().await, Server::start(Some("hunter2-and-more")).await);
    server.fill("docs", 5);
    let Scene { vault, dir, .. } = &scene;
    let cx = lenient(&dir.path().join("state"));
    let create = async |url: String| {
        let spec = SourceSpec::qdrant(url.parse().unwrap());
        vault.create("s", &[spec], &cx).await
    };
    let error = create(server.url("docs")).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("QDRANT_API_KEY_FILE"), "{error}");
    let file = dir.path().join("key");
    let url = format!("{}?keyfile={}", server.url("docs"), file.display());
    std::fs::write(&file, "wrong\n").unwrap();
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    mode(0o644);
    let error = create(url.clone()).await.unwrap_err().to_string();
    assert!(error.contains("can be read by others"), "{error}");
    mode(0o600);
    let error = create(url.clone()).await.unwrap_err().to_string();
    assert!(error.contains("403"), "{error}");
    std::fs::write(&file, format!("{}\n", server.key().unwrap())).unwrap();
    let made = create(url).await.unwrap();
    assert!(!format!("{made:?}").contains("hunter2"));
    for entry in walkdir::WalkDir::new(dir.path().join("state")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let text = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains("hunter2"), "{entry:?}");
        }
    }
}
