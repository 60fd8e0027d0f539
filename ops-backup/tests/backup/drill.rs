//! Drills, attestations, and the probes that ask for them.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::{
    BackupAge, Depth, Fault, FaultStore, LastProvenRestore, Patience, Proof, SourceSpec, Vault,
};
use ops_core::ManualClock;
use ops_core::probe::{Health, Probe};
use ops_core::retry::Retry;
use sqlx::Connection as _;

use crate::fixture::{Scene, all_objects, database, execute, lenient, names, once, vault};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_restores_compares_and_attests_and_leaves_no_scratch() {
    let dir = tempfile::tempdir().unwrap();
    let (data, db) = (dir.path().join("data"), dir.path().join("app.db"));
    fs::create_dir_all(data.join("deep")).unwrap();
    fs::write(data.join("deep/a"), vec![3; 50_000]).unwrap();
    symlink("deep/a", data.join("link")).unwrap();
    fs::hard_link(data.join("deep/a"), data.join("twin")).unwrap();
    let mut conn = database(&db).await;
    execute(
        &mut conn,
        "CREATE TABLE t(n); INSERT INTO t VALUES(1),(2),(3); CREATE TABLE \"odd \"\" name\"(n)",
    )
    .await;
    conn.close().await.unwrap();
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let specs = [SourceSpec::directory(&data), SourceSpec::sqlite(&db)];
    let made = vault.create("s", &specs, &cx).await.unwrap();
    let rows = &made.sources[1].units[0].rows;
    assert_eq!((rows["t"], rows["odd \" name"], rows.len()), (3, 0, 2));
    assert!(vault.last_proven("s").await.unwrap().is_none());
    // The sources are not needed, and not touched.
    fs::remove_dir_all(&data).unwrap();
    fs::remove_file(&db).unwrap();
    let found = vault.drill("s", made.id, &cx).await.unwrap();
    assert!(found.whole, "{found:?}");
    assert_eq!((found.proof, found.rows, found.bytes), (Proof::Drill, 3, made.plain_size()));
    assert_eq!(vault.last_proven("s").await.unwrap(), Some(found.clone()));
    assert_eq!(vault.attestation("s", made.id).await.unwrap(), Some(found));
    assert!(names(&dir.path().join("state/scratch")).is_empty());
    assert!(!names(dir.path()).iter().any(|name| name == "data" || name == "app.db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_a_damaged_backup_attests_the_damage() {
    let scene = Scene::new().await;
    let Scene { dir, store, vault, cx, .. } = &scene;
    fs::write(scene.data.join("a"), vec![3; 50_000]).unwrap();
    let made = vault.create("s", &[scene.spec()], cx).await.unwrap();
    assert!(vault.drill("s", made.id, cx).await.unwrap().whole);
    let key = made.sources[0].units[0].chunks[0].key.as_str().into();
    store.delete(&key).await.unwrap();
    let found = vault.drill("s", made.id, cx).await.unwrap();
    assert!(!found.whole && found.problems[0].contains("missing"), "{found:?}");
    assert!(names(&dir.path().join("state/scratch")).is_empty());
    let probe = LastProvenRestore::new(vault.clone(), "s", Duration::from_hours(1)).unwrap();
    let Health::Unhealthy { reason } = probe.check().await else { panic!("it is damaged") };
    assert!(reason.contains("damaged"), "{reason}");
    assert!(vault.last_proven("s").await.unwrap().is_some(), "it was whole once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_damaged_attestation_proves_nothing() {
    let scene = Scene::new().await;
    let Scene { store, vault, cx, .. } = &scene;
    let made = vault.create("s", &[scene.spec()], cx).await.unwrap();
    assert!(vault.verify("s", made.id, Depth::Full).await.unwrap().is_whole());
    let is_proof = |key: &object_store::path::Path| key.as_ref().contains("/attest/");
    let key = all_objects(&**store).await.into_iter().find(is_proof).unwrap();
    let good = store.get(&key).await.unwrap().bytes().await.unwrap();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        store.put(&key, bad.into()).await.unwrap();
        assert!(vault.attestation("s", made.id).await.unwrap().is_none(), "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_tell_unhealthy_from_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = ManualClock::new(jiff::Timestamp::now());
    let builder = || Vault::builder().patience(once()).clock(clock.clone());
    let vault = builder().open(inner.clone(), "memory:test").await.unwrap();
    let hour = Duration::from_hours(1);
    let age = BackupAge::new(vault.clone(), "s", hour).unwrap();
    let proven = LastProvenRestore::new(vault.clone(), "s", hour).unwrap();
    let unhealthy = |health: Health, text: &str| {
        let Health::Unhealthy { reason } = health else { panic!("{health}") };
        assert!(reason.contains(text), "{reason}");
    };
    unhealthy(age.check().await, "has no backup");
    unhealthy(proven.check().await, "was ever proven");
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[SourceSpec::directory(&data)], &cx).await.unwrap();
    assert_eq!(age.check().await, Health::Healthy);
    assert!(vault.verify("s", made.id, Depth::Full).await.unwrap().is_whole());
    unhealthy(proven.check().await, "was ever proven");
    vault.drill("s", made.id, &cx).await.unwrap();
    assert_eq!(proven.check().await, Health::Healthy);
    clock.advance(2 * hour);
    unhealthy(age.check().await, "at most is expected");
    unhealthy(proven.check().await, "at most is expected");
    clock.jump_to(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1));
    assert!(matches!(age.check().await, Health::Unknown { .. }), "it is of the future");
    // A store that is away: it refuses, or does not answer at all.
    for fault in [Fault::Refused, Fault::Hangs] {
        let away = Arc::new(FaultStore::new(inner.clone(), 2, fault).times(u64::MAX));
        let patience = Patience::default()
            .deadline(Duration::from_millis(300))
            .retry(Retry::new().attempts(2).first_delay(Duration::from_millis(1)));
        let vault = builder().patience(patience).open(away, "memory:test").await.unwrap();
        let age = BackupAge::new(vault.clone(), "s", hour).unwrap();
        let proven = LastProvenRestore::new(vault, "s", hour).unwrap();
        for probe in [&age as &dyn Probe, &proven] {
            let health = probe.check().await;
            assert!(matches!(health, Health::Unknown { .. }), "{}: {health}", probe.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_moment_says_nothing_about_the_backup() {
    let scene = Scene::new().await;
    let Scene { dir, data, store, vault, cx } = &scene;
    let word = |n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes();
    fs::write(data.join("a"), (0..60_000).flat_map(word).collect::<Vec<u8>>()).unwrap();
    let db = dir.path().join("app.db");
    let mut conn = database(&db).await;
    execute(&mut conn, "CREATE TABLE t(n); INSERT INTO t VALUES(1)").await;
    conn.close().await.unwrap();
    let specs = [scene.spec(), SourceSpec::sqlite(&db)];
    let made = vault.create("s", &specs, cx).await.unwrap();
    let (mut failed, mut proven) = (0, 0);
    for at in 2.. {
        // Each call twice, for a chunk is asked for once more.
        let faulty = Arc::new(FaultStore::new(store.clone(), at, Fault::Refused).times(2));
        let hasty = crate::fixture::builder().open(faulty.clone(), "memory:test").await.unwrap();
        let state = tempfile::tempdir_in(dir.path()).unwrap();
        match hasty.drill("s", made.id, &lenient(state.path())).await {
            Ok(found) => assert!(found.whole, "call {at}: {found:?}"),
            Err(_) => failed += 1,
        }
        if let Some(found) = vault.attestation("s", made.id).await.unwrap() {
            assert!(found.whole, "call {at}: {found:?}");
            proven += 1;
        }
        if faulty.calls() < at {
            break;
        }
    }
    assert!(failed > 5 && proven > 0, "{failed} drills failed, {proven} proved it");
}
