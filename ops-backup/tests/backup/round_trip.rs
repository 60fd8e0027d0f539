//! Backups and restores, on real files and stores.
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fixture::{
    Changed, Scene, all_objects, database, execute, flip_every_byte, lenient, names, number,
    scratch, tree, vault,
};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::{
    BackupId, Depth, ErrorKind, Fault, FaultStore, MANIFEST_FORMAT, Manifest, RestoreOptions,
    SourceSpec, Vault, open_store,
};
use ops_core::{ApproveIf, Context, Environment, Outcome, StepStatus};
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_live_database_is_copied_as_one_transaction_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let mut writer = database(&path).await;
    execute(
        &mut writer,
        "CREATE TABLE a(n); CREATE TABLE b(n); INSERT INTO a VALUES(0); INSERT INTO b VALUES(0)",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let writing = tokio::spawn(async move {
        while !flag.load(Ordering::SeqCst) {
            execute(&mut writer, "BEGIN IMMEDIATE; UPDATE a SET n = n + 1; UPDATE b SET n = n + 1; INSERT INTO a SELECT n FROM a LIMIT 0; COMMIT").await;
        }
        number(&mut writer, "SELECT n FROM a").await
    });
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let mut last = -1;
    for round in 0..5 {
        let made = vault.create("app", &[SourceSpec::sqlite(&path)], &cx).await.unwrap();
        let copy = dir.path().join(format!("copy-{round}.db"));
        let place = vault.place(&SourceSpec::sqlite(&copy)).unwrap();
        vault.restore("app", made.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
        let mut db = database(&copy).await;
        let (a, b) =
            (number(&mut db, "SELECT n FROM a").await, number(&mut db, "SELECT n FROM b").await);
        assert_eq!(a, b, "both tables of one transaction");
        assert!(a >= last, "backups go forward");
        last = a;
        db.close().await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writing.await.unwrap() > 0, "the writer wrote all the while");
    assert!(!names(dir.path()).iter().any(|name| name.contains("backup-")), "temporaries are gone");
    assert_eq!(vault.list("app").await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("empty/deep")).unwrap();
    fs::write(data.join("plain"), vec![7; 100_000]).unwrap();
    fs::write(data.join("nothing"), "").unwrap();
    fs::write(data.join(OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
    let long = data.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(250)), "long").unwrap();
    symlink("/nowhere/at/all", data.join("dangling")).unwrap();
    symlink("plain", data.join("link")).unwrap();
    let past = filetime::FileTime::from_unix_time(1_000_000_000, 0);
    filetime::set_symlink_file_times(data.join("link"), past, past).unwrap();
    symlink("x".repeat(300), data.join("long-link")).unwrap();
    fs::hard_link(data.join("plain"), data.join("twin")).unwrap();
    fs::write(data.join("tool"), "#!").unwrap();
    fs::set_permissions(data.join("tool"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::set_permissions(data.join("empty"), PermissionsExt::from_mode(0o500)).unwrap();
    let url = format!("file://{}", dir.path().join("store").display());
    let vault = vault(open_store(&url).unwrap()).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("files", &[SourceSpec::directory(&data)], &cx).await.unwrap();
    let back = dir.path().join("back");
    let place = vault.place(&SourceSpec::directory(&back)).unwrap();
    vault.restore("files", made.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
    assert_eq!(tree(&data), tree(&back));
    let inode = |name: &str| back.join(name).metadata().unwrap().ino();
    assert_eq!(inode("plain"), inode("twin"));
    let again = vault.create("files", &[SourceSpec::directory(&back)], &cx).await.unwrap();
    let digest = |m: &Manifest| m.sources[0].units[0].plain_blake3.clone();
    assert_eq!(digest(&made), digest(&again), "the same tree gives the same bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    let vault = vault(Arc::new(InMemory::new())).await;
    let state = tempfile::tempdir().unwrap();
    let error =
        vault.create("s", &[SourceSpec::directory(dir.path())], &lenient(state.path())).await;
    assert!(error.unwrap_err().to_string().contains("sock` is a socket"));
    assert!(vault.list("s").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_is_found_and_every_missing_object() {
    let Scene { data, store, vault, cx, .. } = &Scene::new().await;
    fs::write(data.join("a"), "some words").unwrap();
    let made = vault.create("s", &[SourceSpec::directory(data)], cx).await.unwrap();
    let open = async || Vault::open(store.clone(), "memory:test").await;
    let missing = async |key: &object_store::path::Path| {
        if !key.as_ref().starts_with("chunks/") {
            return;
        }
        let good = store.get(key).await.unwrap().bytes().await.unwrap();
        store.delete(key).await.unwrap();
        let found = open().await.unwrap().verify("s", made.id, Depth::Quick).await.unwrap();
        assert!(found.problems[0].contains("missing"), "{found:?}");
        store.put(key, good.into()).await.unwrap();
    };
    let flips = flip_every_byte(&**store, made.id, open, missing).await;
    assert!(flips > 500, "{flips}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_call_of_the_store_fails_nothing_torn_is_listed() {
    let dir = scratch();
    let (data, db) = (dir.path().join("data"), dir.path().join("app.db"));
    fs::create_dir(&data).unwrap();
    let noise: Vec<u8> =
        (0..60_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(data.join("a"), noise).unwrap();
    let mut conn = database(&db).await;
    execute(&mut conn, "CREATE TABLE t(n); INSERT INTO t VALUES(1)").await;
    let specs = [SourceSpec::directory(&data), SourceSpec::sqlite(&db)];
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let mut failed = 0;
        for at in 1.. {
            let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            Vault::open(inner.clone(), "memory:test").await.unwrap();
            // The first call reads `format.json`.
            let faulty = Arc::new(FaultStore::new(inner.clone(), at + 1, fault));
            let state = dir.path().join(format!("state-{fault:?}-{at}"));
            let made = vault(faulty.clone()).await.create("s", &specs, &lenient(&state)).await;
            let vault = Vault::open(inner.clone(), "memory:test").await.unwrap();
            let listed = vault.list("s").await.unwrap();
            for id in &listed {
                assert!(vault.verify("s", *id, Depth::Full).await.unwrap().is_whole(), "call {at}");
            }
            if let Ok(manifest) = made {
                assert_eq!(listed, [manifest.id], "call {at}");
            } else {
                failed += 1;
                if listed.is_empty() {
                    let left = all_objects(&*inner).await;
                    // A manifest that may still arrive has a tombstone.
                    let of_use = |key: &object_store::path::Path| {
                        key.as_ref() == "format.json" || key.as_ref().starts_with("tombstones/")
                    };
                    assert!(left.iter().all(of_use) && left.len() <= 2, "call {at}: {left:?}");
                }
            }
            assert!(!names(dir.path()).iter().any(|name| name.contains("backup-")), "call {at}");
            if faulty.calls() < at + 1 {
                break;
            }
        }
        assert!(failed > 10, "{fault:?}: {failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_a_database_keeps_the_old_with_its_side_files() {
    let Changed { dir, vault, cx, spec, backup, db } = Changed::new().await;
    let path = dir.path().join("live/app.db");
    assert!(dir.path().join("live/app.db-wal").metadata().unwrap().len() > 0);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let place = vault.place(&spec).unwrap();
    let plan = vault.plan_restore("s", backup, &place, &RestoreOptions::default()).await.unwrap();
    let nobody =
        Context::builder(dir.path().join("no")).environment(Environment::Development).build();
    let refused = nobody.execute(plan.clone(), &&place).await.unwrap_err();
    assert!(matches!(refused.report().unwrap().outcome, Outcome::Refused { .. }));
    let report = cx.execute(plan, &&place).await.unwrap();
    assert!(
        !dir.path().join("live/app.db-wal").exists(),
        "the old log never meets the new database"
    );
    let mut new = database(&path).await;
    assert_eq!(number(&mut new, "SELECT n FROM t").await, 1);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
    drop(db);
    let mut old = database(&place.old(report.id)).await;
    assert_eq!(number(&mut old, "SELECT n FROM t").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_goes_back_leaves_the_exact_old_bytes() {
    let changed = Changed::new().await;
    let Changed { dir, vault, spec, backup, .. } = &changed;
    let live = dir.path().join("live");
    let place = vault.place(spec).unwrap();
    // Without the folder itself, whose time of change moves with every rename in it.
    let files = || {
        let mut files = tree(&live);
        files.remove(Path::new(""));
        files
    };
    let before = files();
    let restore =
        vault.plan_restore("s", *backup, &place, &RestoreOptions::default()).await.unwrap();
    // A second restore of the operation fails, because something gets in its way after the checks.
    let other = dir.path().join("fresh");
    let missing = vault.place(&SourceSpec::sqlite(&other)).unwrap();
    let fails =
        vault.plan_restore("s", *backup, &missing, &RestoreOptions::default()).await.unwrap();
    let watch = Breaks { place: other };
    let cx = Context::builder(dir.path().join("state"))
        .environment(Environment::Development)
        .approver(ApproveIf::new("test", |_: &_| true))
        .observer(watch)
        .build();
    let error = cx.execute(restore.then(fails), &(&place, &missing)).await.unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{report:?}");
    assert_eq!(report.steps[1].status, StepStatus::Undone, "the swap had been done: {report:?}");
    assert!(files() == before, "the bytes differ");
}

/// Puts a file in the way of the last step, after the checks.
#[derive(Debug)]
struct Breaks {
    place: PathBuf,
}

impl ops_core::Observer for Breaks {
    fn event(&self, _: &ops_core::Event<'_>) {
        if fs::exists(self.place.parent().unwrap().join("live")).unwrap()
            && names(&self.place.parent().unwrap().join("live"))
                .iter()
                .any(|n| n.contains(".before-"))
        {
            fs::write(&self.place, "in the way").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn production_is_refused_without_approval_and_so_is_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for path in [&one, &two] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("a"), path.to_str().unwrap()).unwrap();
    }
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[SourceSpec::directory(&one)], &cx).await.unwrap();
    let options = RestoreOptions::default();
    let before = tree(dir.path());
    let production = Context::new(dir.path().join("prod"));
    let place = vault.place(&SourceSpec::directory(&one)).unwrap();
    let error = vault.restore("s", made.id, &place, &options, &production).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    let fresh = vault.place(&SourceSpec::directory(dir.path().join("fresh"))).unwrap();
    let error = vault.restore("s", made.id, &fresh, &options, &production).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }), "{error}");
    let staging = Context::builder(dir.path().join("stage"))
        .environment(Environment::Staging)
        .approver(ApproveIf::new("test", |_: &_| true))
        .build();
    let error = vault.restore("s", made.id, &place, &options, &staging).await.unwrap_err();
    assert!(error.to_string().contains("was made in development"), "{error}");
    let other = vault.place(&SourceSpec::directory(&two)).unwrap();
    let error = vault.restore("s", made.id, &other, &options, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let wrong = vault.place(&SourceSpec::sqlite(dir.path().join("fresh"))).unwrap();
    let error = vault.restore("s", made.id, &wrong, &options, &cx).await.unwrap_err();
    assert!(error.to_string().contains("is a backup of kind `directory`"), "{error}");
    assert_eq!(
        tree(&one),
        before
            .iter()
            .filter_map(|(path, of)| Some((path.strip_prefix("one").ok()?.to_owned(), of.clone())))
            .collect()
    );
    vault.restore("s", made.id, &other, &options.allow_other_source(), &cx).await.unwrap();
    assert_eq!(tree(&one), tree(&two));
}

#[test]
fn the_manifest_format_is_what_it_was() {
    let first = include_bytes!("../manifest-1.json");
    let golden = include_bytes!("../manifest-2.json");
    for (bytes, rows) in [(&first[..], None), (&golden[..], Some(&3))] {
        let manifest = Manifest::from_bytes(bytes).unwrap();
        assert!(manifest.to_bytes().unwrap() == bytes);
        assert_eq!(manifest.id, "01JD2Q5W3V8Y7K6M4N9P0R1S2T".parse::<BackupId>().unwrap());
        assert_eq!(manifest.sources[0].units[0].rows.get("entries"), rows);
    }
    let learned = include_bytes!("../manifest-3.json");
    let manifest = Manifest::from_bytes(learned).unwrap();
    assert!(manifest.to_bytes().unwrap() == learned);
    assert_eq!(manifest.sources[0].tables["public.entries"].rows, 3);
    assert_eq!(manifest.sources[0].facts["lsn"], "0/15D4F28");
    let (keyed, xxh3) =
        (&include_bytes!("../manifest-5.json")[..], include_bytes!("../manifest-6.json"));
    for (bytes, format, prefix) in [(keyed, 5, "blake3:"), (xxh3, MANIFEST_FORMAT, "blake3-xxh3:")]
    {
        let manifest = Manifest::from_bytes(bytes).unwrap();
        assert!(manifest.to_bytes().unwrap() == bytes && manifest.format == format);
        assert!(manifest.sources[0].tables["public.entries"].content.starts_with(prefix));
    }
    let newer =
        String::from_utf8(golden.to_vec()).unwrap().replace("\"format\":2", "\"format\":99");
    let error = Manifest::from_bytes(newer.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[tokio::test]
async fn a_newer_repository_and_an_unknown_store_are_refused_by_name() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store
        .put(&"format.json".into(), r#"{"repository":"ops-backup","format":3}"#.into())
        .await
        .unwrap();
    let error = Vault::open(store, "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    for url in ["gs://bucket/x", "nonsense", "file:relative"] {
        let Err(error) = open_store(url) else { continue };
        assert!(error.to_string().contains("file:///absolute/path"), "{error}");
    }
    assert!(open_store("gs://bucket").is_err() && open_store("nonsense").is_err());
}

/// Cancels once a chunk was uploaded.
#[derive(Debug)]
struct CancelsWhenHalf(tokio_util::sync::CancellationToken);

impl ops_core::Progress for CancelsWhenHalf {
    fn update(&self, update: &ops_core::progress::Update) {
        assert!(update.done > 0 && update.phase == "backing up s", "{update:?}");
        self.0.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing() {
    let Scene { dir, data, store, vault, .. } = &Scene::new().await;
    fs::write(data.join("a"), vec![1; 200_000]).unwrap();
    let token = tokio_util::sync::CancellationToken::new();
    let cx = Context::builder(dir.path().join("state"))
        .environment(Environment::Development)
        .cancellation(token.clone())
        .progress(CancelsWhenHalf(token.clone()))
        .build();
    let error = vault.create("s", &[SourceSpec::directory(data)], &cx).await.unwrap_err();
    assert!(token.is_cancelled(), "it was under way: {error}");
    assert!(vault.list("s").await.unwrap().is_empty());
    assert_eq!(all_objects(&**store).await.len(), 1, "only `format.json` is left");
}
