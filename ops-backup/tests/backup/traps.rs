//! What goes wrong in the world: odd files, locked and broken databases, full disks, races.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::retention::Policy;
use ops_backup::{
    Directory, ErrorKind, MANIFEST_FORMAT, RestoreOptions, Source as _, SourceSpec, Sqlite, Vault,
};
use ops_core::{Class, Classify as _};
use sqlx::Connection as _;

use crate::fixture::{Scene, database, execute, lenient, names, number, tree, vault};

#[tokio::test(flavor = "multi_thread")]
async fn odd_links_and_old_times_come_back_as_they_were() {
    let scene = Scene::new().await;
    let Scene { dir, data, vault, cx, .. } = &scene;
    let long = format!("a//b/./{}", "c//".repeat(60));
    for (at, target) in [
        "a//b",
        "./a/./b/",
        "/",
        "..",
        "x/../y",
        "//root",
        &"l".repeat(99),
        &"l".repeat(100),
        &"l".repeat(101),
        &long,
    ]
    .iter()
    .enumerate()
    {
        symlink(target, data.join(format!("link-{at}"))).unwrap();
    }
    symlink(&long, data.join("n".repeat(150))).unwrap();
    fs::write(data.join("old"), "old").unwrap();
    let moon = filetime::FileTime::from_unix_time(-14_182_940, 0);
    filetime::set_file_mtime(data.join("old"), moon).unwrap();
    filetime::set_symlink_file_times(data.join("link-0"), moon, moon).unwrap();
    let made = vault.create("s", &[scene.spec()], cx).await.unwrap();
    let back = SourceSpec::directory(dir.path().join("back"));
    let place = vault.place(&back).unwrap();
    vault.restore("s", made.id, &place, &RestoreOptions::default(), cx).await.unwrap();
    assert_eq!(tree(data), tree(&dir.path().join("back")));
    let drilled = vault.drill("s", made.id, cx).await.unwrap();
    assert!(drilled.whole, "{drilled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_shrinks_or_vanishes_is_told_as_such() {
    type Change = fn(&std::path::Path);
    let changes: [Change; 4] = [
        |data| fs::write(data.join("a"), "short").unwrap(),
        |data| {
            let file = fs::File::options().append(true).open(data.join("a")).unwrap();
            file.set_len(20 << 20).unwrap();
        },
        |data| fs::remove_file(data.join("b")).unwrap(),
        |data| fs::remove_dir_all(data.join("c")).unwrap(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_owned();
        fs::write(data.join("a"), vec![1; 8 << 20]).unwrap();
        fs::write(data.join("b"), "b").unwrap();
        fs::create_dir(data.join("c")).unwrap();
        fs::write(data.join("c/d"), "d").unwrap();
        let source = Directory::new(&data);
        let unit = source.plan().await.unwrap().remove(0);
        let id = "01JD2Q5W3V8Y7K6M4N9P0R1S2T".parse().unwrap();
        let mut bytes = source.dump(&unit, id).await.unwrap().bytes;
        // The pipe holds much less than the file: its reader stands in the middle of `a`.
        bytes.next().await.unwrap().unwrap();
        // The walk has read the folder's names by now, or not; both are fine for what vanishes.
        change(&data);
        let mut error = None;
        while let Some(piece) = bytes.next().await {
            error = piece.err().or(error);
        }
        match error {
            Some(error) => {
                assert_eq!(error.kind(), ErrorKind::Changed, "change {at}: {error}");
                assert_eq!(error.class(), Class::Temporary);
            }
            None => assert!(at >= 2, "change {at} was not seen"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_database_is_never_readable_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let mut db = database(&path).await;
    // More than the pipe to its reader holds.
    execute(&mut db, "CREATE TABLE t(n); INSERT INTO t VALUES (randomblob(8000000))").await;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let source = Sqlite::new(&path);
    let unit = source.plan().await.unwrap().remove(0);
    let id = "01JD2Q5W3V8Y7K6M4N9P0R1S2T".parse().unwrap();
    let dump = source.dump(&unit, id).await.unwrap();
    let copy = dir.path().join(format!("app.db.backup-{id}"));
    assert_eq!(copy.metadata().unwrap().mode() & 0o777, 0o600);
    drop(dump);
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[SourceSpec::sqlite(&path)], &cx).await.unwrap();
    let fresh = dir.path().join("fresh.db");
    let place = vault.place(&SourceSpec::sqlite(&fresh)).unwrap();
    vault.restore("s", made.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
    assert_eq!(fresh.metadata().unwrap().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_broken_empty_and_oddly_named_databases() {
    let dir = tempfile::tempdir().unwrap();
    let cx = lenient(&dir.path().join("state"));
    let path = dir.path().join("odd ?name%20&#.db");
    let mut db = database(&path).await;
    execute(&mut db, "PRAGMA journal_mode = DELETE; CREATE TABLE t(n, x)").await;
    execute(&mut db, "INSERT INTO t VALUES (1, randomblob(9000)), (2, randomblob(9000))").await;
    execute(&mut db, "BEGIN EXCLUSIVE").await;
    let source = Sqlite::new(&path).busy_timeout(Duration::from_millis(50));
    let builder = || Vault::builder().source("db", source.clone());
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = builder().open(store.clone(), "memory:test").await.unwrap();
    let named = [SourceSpec::named("db")];
    let error = vault.create("s", &named, &cx).await.unwrap_err();
    assert!(ops_core::error::chain(&error).join(": ").contains("lock"), "{error}");
    execute(&mut db, "COMMIT").await;
    let made = vault.create("s", &named, &cx).await.unwrap();
    assert_eq!(made.sources[0].units[0].rows["t"], 2);
    db.close().await.unwrap();

    let empty = dir.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    let made = vault.create("empty", &[SourceSpec::sqlite(&empty)], &cx).await.unwrap();
    let back = dir.path().join("back.db");
    let place = vault.place(&SourceSpec::sqlite(&back)).unwrap();
    vault.restore("empty", made.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
    let mut db = database(&back).await;
    assert_eq!(number(&mut db, "SELECT count(*) FROM sqlite_schema").await, 0);

    let broken = dir.path().join("broken.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    fs::write(&broken, bytes).unwrap();
    let text = dir.path().join("text.db");
    fs::write(
        &text,
        "this is no database, but it is long enough to have a header of one".repeat(40),
    )
    .unwrap();
    for path in [&broken, &text] {
        let error = vault.create("bad", &[SourceSpec::sqlite(path)], &cx).await.unwrap_err();
        assert!(error.to_string().contains("database"), "{error}");
    }
    assert!(vault.list("bad").await.unwrap().is_empty());
    assert!(!names(dir.path()).iter().any(|name| name.contains(".backup-")), "copies are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_killed_backup_goes_with_the_next_one_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let mut db = database(&path).await;
    execute(&mut db, "CREATE TABLE t(n)").await;
    db.close().await.unwrap();
    let [old, young, other] = ["01JD2Q5W3V8Y7K6M4N9P0R1S2T", "01JD2Q5W3V8Y7K6M4N9P0R1S2V", "mine"]
        .map(|id| dir.path().join(format!("app.db.backup-{id}")));
    let days = filetime::FileTime::from_unix_time(1_700_000_000, 0);
    for path in [&old, &young, &other] {
        fs::write(path, "x").unwrap();
    }
    filetime::set_file_mtime(&old, days).unwrap();
    filetime::set_file_mtime(&other, days).unwrap();
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    vault.create("s", &[SourceSpec::sqlite(&path)], &cx).await.unwrap();
    assert!(!old.exists() && young.exists() && other.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_as_targets_two_restores_at_once_and_a_store_within_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), vec![5; 300_000]).unwrap();
    let url = format!("file://{}", data.join("backups").display());
    let inside = Vault::open_url(&url).await.unwrap();
    let cx = lenient(&dir.path().join("state"));
    let error = inside.create("s", &[SourceSpec::directory(&data)], &cx).await.unwrap_err();
    assert!(error.to_string().contains("holds the store"), "{error}");

    let vault = vault(Arc::new(InMemory::new())).await;
    let spec = SourceSpec::directory(&data);
    let made = vault.create("s", std::slice::from_ref(&spec), &cx).await.unwrap();
    let link = dir.path().join("link");
    symlink(&data, &link).unwrap();
    let error = vault.place(&SourceSpec::directory(&link)).unwrap_err();
    assert!(error.to_string().contains("is a symbolic link"), "{error}");

    fs::write(data.join("a"), "newer").unwrap();
    let place = vault.place(&spec).unwrap();
    let options = RestoreOptions::default();
    let restore = || vault.restore("s", made.id, &place, &options, &cx);
    let (one, two) = tokio::join!(restore(), restore());
    // One after the other, or one of them refused: never mixed.
    assert!(one.is_ok() || two.is_ok());
    assert_eq!(fs::read(data.join("a")).unwrap(), vec![5; 300_000]);
    assert!(!names(dir.path()).iter().any(|name| name.contains(".restore-")), "nothing is staged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_manifest_is_refused_by_name_and_never_pruned() {
    let scene = Scene::new().await;
    let (Scene { store, vault, cx, .. }, spec) = (&scene, [scene.spec()]);
    let old = vault.create("s", &spec, cx).await.unwrap();
    vault.create("s", &spec, cx).await.unwrap();
    let key = format!("sets/s/{}/manifest.json", old.id).as_str().into();
    let text = store.get(&key).await.unwrap().bytes().await.unwrap();
    let written = format!("\"format\":{MANIFEST_FORMAT}");
    let text = String::from_utf8(text.to_vec()).unwrap().replace(&written, "\"format\":9");
    store.put(&key, text.into()).await.unwrap();
    let kind = |error: ops_backup::Error| error.kind();
    let error = vault.show("s", old.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(error.to_string().contains("use the version of the program that wrote it"), "{error}");
    let place = vault.place(&spec[0]).unwrap();
    let restored = vault.restore("s", old.id, &place, &RestoreOptions::default(), cx).await;
    assert_eq!(restored.map_err(kind).unwrap_err(), ErrorKind::Foreign);
    let error = vault.prune("s", Policy::new().last(1), cx).await.unwrap_err();
    assert!(error.to_string().contains("format 9"), "{error}");
    assert_eq!(vault.list("s").await.unwrap().len(), 2);
}
