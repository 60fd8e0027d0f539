//! Restores that are undone after they were committed.

use std::fs;
use std::path::Path;

use ops_backup::RestoreOptions;
use ops_core::{Context, Outcome};

use crate::fixture::{Changed, Scene, database, number, tree};

/// Without the folder itself, whose time of change moves with every rename in it.
fn files(of: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let tree = tree(of).into_iter().filter(|(path, _)| path != Path::new(""));
    tree.map(|(path, (_, _, _, content))| (path, content)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_replaced_comes_back_to_the_byte_with_its_side_files_and_goes_again() {
    let Changed { dir, vault, cx, spec, backup, db } = Changed::new().await;
    let live = dir.path().join("live");
    let path = live.join("app.db");
    // A program that died left its log; one that ends well would fold it in.
    std::mem::forget(db);
    let before = files(&live);
    assert!(before.iter().any(|(name, bytes)| name.ends_with("app.db-wal") && !bytes.is_empty()));
    let place = vault.place(&spec).unwrap();
    let options = RestoreOptions::default();
    let report = vault.restore("s", backup, &place, &options, &cx).await.unwrap();

    let plan = vault.plan_undo_restore(&place, report.id).unwrap();
    assert!(plan.to_string().contains("back in its place"), "{plan}");
    let nobody = Context::new(dir.path().join("production"));
    let refused = nobody.execute(plan, &&place).await.unwrap_err();
    assert!(matches!(refused.report().unwrap().outcome, Outcome::Refused { .. }));
    let undone = vault.undo_restore(&place, report.id, &cx).await.unwrap();
    let mut after = files(&live);
    after.retain(|(name, _)| !name.to_str().unwrap().contains(".before-"));
    assert!(after == before, "the bytes differ");
    let mut restored = database(&place.old(undone.id)).await;
    assert_eq!(number(&mut restored, "SELECT n FROM t").await, 1);
    drop(restored);

    // What was kept by the first is in its place now, and so it cannot be had again.
    let error = vault.undo_restore(&place, report.id, &cx).await.unwrap_err().to_string();
    let kept = format!("app.db.before-{}", report.id);
    assert!(error.contains("is gone: there is no") && error.contains(&kept), "{error}");
    // But the undo can be undone.
    vault.undo_restore(&place, undone.id, &cx).await.unwrap();
    let mut db = database(&path).await;
    assert_eq!(number(&mut db, "SELECT n FROM t").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_comes_back_and_nothing_is_exchanged_with_what_is_not_there() {
    let scene = Scene::new().await;
    let Scene { data, vault, cx, .. } = &scene;
    fs::write(data.join("a"), "old").unwrap();
    let made = vault.create("s", &[scene.spec()], cx).await.unwrap();
    fs::write(data.join("a"), "newer").unwrap();
    let place = vault.place(&scene.spec()).unwrap();
    let options = RestoreOptions::default();
    let report = vault.restore("s", made.id, &place, &options, cx).await.unwrap();
    assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "old");
    fs::rename(data, scene.dir.path().join("away")).unwrap();
    let error = vault.undo_restore(&place, report.id, cx).await.unwrap_err().to_string();
    assert!(error.contains("to exchange with"), "{error}");
    fs::rename(scene.dir.path().join("away"), data).unwrap();
    vault.undo_restore(&place, report.id, cx).await.unwrap();
    assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beside_a_directory_is_not_taken_for_its_journal() {
    let scene = Scene::new().await;
    let Scene { dir, data, vault, cx, .. } = &scene;
    fs::write(data.join("a"), "1").unwrap();
    let made = vault.create("s", &[scene.spec()], cx).await.unwrap();
    fs::write(data.join("a"), "2").unwrap();
    let strangers = ["data-journal", "data-wal", "data-shm"].map(|name| dir.path().join(name));
    for stranger in &strangers {
        fs::write(stranger, "of another program").unwrap();
    }
    let untouched =
        || strangers.iter().all(|path| fs::read(path).unwrap() == b"of another program");
    let place = vault.place(&scene.spec()).unwrap();
    let report = vault.restore("s", made.id, &place, &RestoreOptions::default(), cx).await.unwrap();
    assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "1");
    assert!(untouched());
    let undone = vault.undo_restore(&place, report.id, cx).await.unwrap();
    assert_eq!(undone.outcome, Outcome::Completed);
    assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "2");
    assert!(untouched());
    let fresh = vault.place(&ops_backup::SourceSpec::directory(dir.path().join("fresh"))).unwrap();
    fs::write(dir.path().join("fresh-wal"), "of another program").unwrap();
    vault.restore("s", made.id, &fresh, &RestoreOptions::default(), cx).await.unwrap();
}
