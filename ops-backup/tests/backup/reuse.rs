//! Chunks that earlier backups have, and prunes of backups that share them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::retention::Policy;
use ops_backup::{Depth, RestoreOptions, SourceSpec, Vault};

use crate::fixture::{all_objects, lenient, scratch, tree, unneeded, vault};

fn noise(salt: u32, words: u32) -> Vec<u8> {
    let word = move |n: u32| (n ^ salt).wrapping_mul(2_654_435_761).rotate_left(n % 31);
    (0..words).flat_map(|n| word(n).to_le_bytes()).collect()
}

async fn chunks(store: &dyn ObjectStore) -> usize {
    all_objects(store).await.iter().filter(|key| key.as_ref().starts_with("chunks/")).count()
}

fn soon() -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)
}

async fn restored(vault: &Vault, set: &str, dir: &Path, to: &str) {
    let (cx, back) = (lenient(&dir.join("state")), dir.join(to));
    let newest = vault.latest(set).await.unwrap().unwrap();
    let place = vault.place(&SourceSpec::directory(&back)).unwrap();
    vault.restore(set, newest.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
    assert_eq!(tree(&dir.join("data")), tree(&back));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_localised_change_uploads_little_and_each_backup_is_complete_by_itself() {
    let dir = scratch();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), noise(1, 500_000)).unwrap();
    fs::write(data.join("b"), noise(2, 100_000)).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = vault(store.clone()).await;
    let cx = lenient(&dir.path().join("state"));
    let spec = [SourceSpec::directory(&data)];
    let first = vault.create("s", &spec, &cx).await.unwrap();
    assert!(first.uploaded() > 2_000_000);
    let again = vault.create("s", &spec, &cx).await.unwrap();
    assert_eq!(again.uploaded(), 0, "nothing has changed");
    // In the middle: what is behind moves.
    let mut bytes = fs::read(data.join("a")).unwrap();
    bytes.splice(900_000..900_010, *b"a few words more");
    fs::write(data.join("a"), bytes).unwrap();
    let changed = vault.create("s", &spec, &cx).await.unwrap();
    let share = changed.uploaded() * 100 / first.uploaded();
    assert!(changed.uploaded() > 0 && share <= 5, "{share} %");
    let before = chunks(&*store).await;
    // Another set shares nothing, so it can be pruned, and lost, for itself.
    let other = vault.create("other", &spec, &cx).await.unwrap();
    assert!(other.uploaded() > 2_000_000);
    assert!(chunks(&*store).await > before * 3 / 2);
    // The first two go; the third has all it needs.
    vault.prune("s", Policy::new().last(1), &cx).await.unwrap();
    assert_eq!(vault.list("s").await.unwrap(), [changed.id]);
    assert!(vault.verify("s", changed.id, Depth::Full).await.unwrap().is_whole());
    restored(&vault, "s", dir.path(), "back").await;
    let plan = vault.plan_prune("s", Policy::new().last(1), soon()).await.unwrap();
    assert!(plan.is_empty(), "what is shared is not to be swept: {plan}");
    // Until nobody needs it any more.
    fs::write(data.join("a"), noise(7, 500_000)).unwrap();
    fs::write(data.join("b"), noise(8, 100_000)).unwrap();
    vault.create("s", &spec, &cx).await.unwrap();
    vault.prune("s", Policy::new().last(1), &cx).await.unwrap();
    restored(&vault, "s", dir.path(), "back-2").await;
    let left = unneeded(&*store, &vault, &["s", "other"]).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_be_damaged_is_uploaded_again() {
    let dir = scratch();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), noise(3, 100_000)).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = vault(store.clone()).await;
    let cx = lenient(&dir.path().join("state"));
    let spec = [SourceSpec::directory(&data)];
    let first = vault.create("s", &spec, &cx).await.unwrap();
    let second = vault.create("s", &spec, &cx).await.unwrap();
    let key = first.sources[0].units[0].chunks[2].key.as_str().into();
    let mut bytes = store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.put(&key, bytes.into()).await.unwrap();
    assert!(!vault.verify("s", second.id, Depth::Full).await.unwrap().is_whole());
    let third = vault.create("s", &spec, &cx).await.unwrap();
    assert!(third.uploaded() > 0);
    assert!(vault.verify("s", third.id, Depth::Full).await.unwrap().is_whole());
    // A chunk that is gone is noticed before the manifest, and no backup is made of it.
    let key = third.sources[0].units[0].chunks[2].key.as_str().into();
    store.delete(&key).await.unwrap();
    let error = vault.create("s", &spec, &cx).await.unwrap_err();
    assert!(error.to_string().contains("missing") || error.to_string().contains("went back"));
    assert_eq!(vault.list("s").await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_twice_in_one_backup_is_one_object() {
    let dir = scratch();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), vec![0; 4 << 20]).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = vault(store.clone()).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[SourceSpec::directory(&data)], &cx).await.unwrap();
    assert!(made.sources[0].units[0].chunks.len() > 50);
    assert!(chunks(&*store).await <= 4, "zeros are one chunk");
    restored(&vault, "s", dir.path(), "back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_the_first_format_is_read_and_becomes_one_of_the_second() {
    let dir = scratch();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = include_bytes!("../format-1.json");
    store.put(&"format.json".into(), first.to_vec().into()).await.unwrap();
    let format = async || store.get(&"format.json".into()).await.unwrap().bytes().await.unwrap();
    let vault = vault(store.clone()).await;
    assert!(vault.list("s").await.unwrap().is_empty());
    assert_eq!(format().await, first[..], "reading changes nothing");
    let cx = lenient(&dir.path().join("state"));
    vault.create("s", &[SourceSpec::directory(&data)], &cx).await.unwrap();
    assert_eq!(format().await, include_bytes!("../format-2.json")[..]);
}
