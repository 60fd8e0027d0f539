//! Limits, and what is left of a backup that is given up; parts that are verified by the date.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan as _};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use ops_backup::{Depth, Settings, SourceSpec, Subset, Vault, VaultBuilder};
use ops_core::{Context, Environment};
use tokio_util::sync::CancellationToken;

use crate::fixture::{all_objects, lenient, once, scratch};

fn builder() -> VaultBuilder {
    let mut settings = Settings::default();
    settings.chunk_size = 32 << 10;
    Vault::builder().settings(settings).patience(once())
}

/// 400 kB that do not compress.
fn noise(dir: &std::path::Path) -> SourceSpec {
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let word = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 29).to_le_bytes();
    fs::write(data.join("a"), (0..100_000).flat_map(word).collect::<Vec<u8>>()).unwrap();
    SourceSpec::directory(data)
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_verifications_keep_to_their_limits() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let cx = lenient(&dir.path().join("state"));
    let spec = [noise(dir.path())];
    let open = async |builder: VaultBuilder| builder.open(store.clone(), "memory:test").await;
    // A quarter of a second's worth goes at once, and nobody waits for the last piece, which has
    // 128 KiB at most.
    let slow = Duration::from_millis(400);
    let begun = Instant::now();
    let read_slowly = open(builder().read_limit(400_000)).await.unwrap();
    read_slowly.create("read", &spec, &cx).await.unwrap();
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let stored_slowly = open(builder().store_limit(400_000)).await.unwrap();
    let made = stored_slowly.create("stored", &spec, &cx).await.unwrap();
    assert!(made.uploaded() > 350_000, "{}", made.uploaded());
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let again = open(builder().store_limit(400_000)).await.unwrap();
    assert!(again.verify("stored", made.id, Depth::Full).await.unwrap().is_whole());
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cancelled_between_its_bytes_leaves_nothing() {
    for of_the_store in [true, false] {
        let (dir, store) = (scratch(), Arc::new(InMemory::new()));
        // Hours, if nobody looked at the token.
        let limited =
            if of_the_store { builder().store_limit(20_000) } else { builder().read_limit(20_000) };
        let vault = limited.open(store.clone(), "memory:test").await.unwrap();
        let token = CancellationToken::new();
        let cx = Context::builder(dir.path().join("state"))
            .environment(Environment::Development)
            .cancellation(token.clone())
            .build();
        let spec = [noise(dir.path())];
        let begun = Instant::now();
        let cancel = async {
            while of_the_store && all_objects(&*store).await.len() < 3 {
                assert!(begun.elapsed() < Duration::from_secs(20), "no chunk was stored");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            token.cancel();
            Instant::now()
        };
        let (made, cancelled) = tokio::join!(vault.create("s", &spec, &cx), cancel);
        assert!(made.is_err());
        let took = cancelled.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(vault.list("s").await.unwrap().is_empty());
        let left = all_objects(&*store).await;
        assert!(left.iter().all(|key| !key.as_ref().contains('/')), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_in_the_month_and_on_the_day_of_its_object() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let cx = lenient(&dir.path().join("state"));
    let vault = builder().open(store.clone(), "memory:test").await.unwrap();
    let made = vault.create("s", &[noise(dir.path())], &cx).await.unwrap();
    let keys: Vec<_> = made.sources[0].units[0].chunks.iter().map(|c| c.key.clone()).collect();
    let bad = keys[keys.len() / 2].clone();
    let at = bad.as_str().into();
    let mut bytes = store.get(&at).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[9] ^= 1;
    store.put(&at, bytes.into()).await.unwrap();
    assert!(vault.verify("s", made.id, Depth::Quick).await.unwrap().is_whole());
    let first: Timestamp = "2026-02-01T04:00:00Z".parse().unwrap();
    let (mut read, mut found) = (0, 0);
    for day in 0..28_i64 {
        let subset = Subset::of_day(first + (24 * day).hours());
        let verified = vault.verify("s", made.id, Depth::Part(subset)).await.unwrap();
        read += verified.read;
        assert_eq!(verified.objects, keys.len(), "all are looked at");
        assert_eq!(verified.is_whole(), !subset.has(&bad), "day {day}: {verified:?}");
        assert_eq!(verified.attested, !verified.is_whole(), "day {day}");
        found += verified.problems.len();
    }
    assert_eq!((read, found), (keys.len(), 1));
    // Nobody builds on it.
    let spec = SourceSpec::directory(dir.path().join("data"));
    let next = vault.create("s", &[spec], &cx).await.unwrap();
    assert!(next.uploaded() > 350_000, "{}", next.uploaded());
}
