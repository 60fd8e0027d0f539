//! Backups and prunes of one set that run through one another: each pauses at each call of the
//! store, and goes on by chance. None of them knows of a lock.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use ops_backup::retention::Policy;
use ops_backup::{BackupId, Depth, FaultStore, Settings, SourceSpec, Vault};

use crate::fixture::{all_objects, lenient, once, scratch, unneeded};

/// A small generator, so that a seed says everything.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

async fn open(store: Arc<dyn ObjectStore>, grace: Duration) -> Vault {
    let mut settings = Settings::default();
    settings.chunk_size = 4 << 10;
    let builder = Vault::builder().settings(settings).patience(once()).grace(grace);
    builder.open(store, "memory:test").await.unwrap()
}

/// Content of which each version shares most with the one before.
fn data(dir: &Path, version: u32) -> SourceSpec {
    let data = dir.join(format!("data-{version}"));
    if !data.exists() {
        fs::create_dir(&data).unwrap();
        let word = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
        let mut bytes: Vec<u8> = (0..6_000).flat_map(word).collect();
        for change in 0..version as usize {
            let at = 1_000 + 5_000 * (change % 4);
            bytes[at..at + 8].copy_from_slice(&(change as u64 + 77).to_le_bytes());
        }
        fs::write(data.join("a"), bytes).unwrap();
    }
    SourceSpec::directory(data)
}

/// What somebody did: a backup, or nothing that can be listed.
type Done = Result<Option<BackupId>, String>;

fn soon() -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)
}

async fn round(seed: u64, dir: &Path) {
    let mut chance = Chance(seed);
    let grace = if seed.is_multiple_of(4) { Duration::ZERO } else { Duration::from_hours(1) };
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let look = open(inner.clone(), grace).await;
    let cx = lenient(&dir.join(format!("state-{seed}")));
    for version in 0..2 {
        look.create("s", &[data(dir, version)], &cx).await.unwrap();
    }
    let actors = 2 + chance.below(3);
    let (mut stores, mut tasks) = (Vec::new(), Vec::new());
    for actor in 0..actors {
        let store = Arc::new(FaultStore::in_turns(inner.clone()));
        store.grant(1);
        let vault = open(store.clone(), grace).await;
        let cx = lenient(&dir.join(format!("state-{seed}-{actor}")));
        // The first is a backup, the second a prune, the others are either, twice.
        let kind = if actor < 2 { actor } else { chance.below(2) };
        let source = data(dir, u32::try_from(chance.below(4)).unwrap());
        let work: BoxFuture<'static, Done> = if kind == 0 {
            async move {
                let made = vault.create("s", &[source], &cx).await;
                made.map(|made| Some(made.id)).map_err(|e| e.to_string())
            }
            .boxed()
        } else {
            async move {
                for _ in 0..2 {
                    let plan = vault.plan_prune("s", Policy::new().last(1), soon()).await;
                    let plan = plan.map_err(|e| e.to_string())?;
                    cx.execute(plan, &&vault).await.map_err(|e| e.to_string())?;
                }
                Ok(None)
            }
            .boxed()
        };
        stores.push(store);
        tasks.push(tokio::spawn(work));
    }
    // Some are killed where they stand, and never come back.
    let killed = chance.below(3 * actors);
    let kill_after = chance.below(60);
    let until = Instant::now() + Duration::from_mins(1);
    let mut turns = 0;
    while tasks.iter().any(|task| !task.is_finished()) {
        assert!(Instant::now() < until, "seed {seed}: it does not end");
        let at = usize::try_from(chance.below(actors)).unwrap();
        if turns == kill_after && killed < actors {
            tasks[usize::try_from(killed).unwrap()].abort();
        }
        turns += 1;
        if tasks[at].is_finished() {
            continue;
        }
        // A short way or a long one.
        let calls = if chance.below(4) == 0 { 40 } else { 1 + chance.below(4) };
        for _ in 0..calls {
            while stores[at].waiting() == 0 && !tasks[at].is_finished() {
                assert!(Instant::now() < until, "seed {seed}: it neither calls nor ends");
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
            if stores[at].waiting() == 0 {
                break;
            }
            let passed = stores[at].passed();
            stores[at].grant(1);
            while stores[at].passed() == passed && !tasks[at].is_finished() {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
        }
    }
    // Whoever was killed may still use up the turns that it was given.
    for store in &stores {
        let mut calls = u64::MAX;
        while calls != store.calls() {
            calls = store.calls();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let listed = look.list("s").await.unwrap();
    assert!(!listed.is_empty(), "seed {seed}: a set is never emptied");
    for id in &listed {
        let found = look.verify("s", *id, Depth::Full).await.unwrap();
        assert!(found.is_whole(), "seed {seed}: {id} is listed and torn: {found:?}");
    }
    for (actor, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(Ok(Some(id))) => {
                let tombstone = format!("tombstones/{id}.json").as_str().into();
                let hidden = object_store::ObjectStoreExt::head(&*inner, &tombstone).await;
                // A prune may have taken it out since, which leaves a trace until the grace is over.
                let known = listed.contains(&id)
                    || hidden.is_ok_and(|meta| meta.size > 0)
                    || grace.is_zero();
                assert!(known, "seed {seed}: the success of {actor} is not there");
            }
            Ok(_) => {}
            Err(error) => assert!(error.is_cancelled(), "seed {seed}: {error}"),
        }
    }
    // Whoever was killed is given up; then nothing is left that no backup needs.
    let strict = open(inner.clone(), Duration::ZERO).await;
    for _ in 0..2 {
        strict.prune("s", Policy::new().last(1), &cx).await.unwrap();
    }
    let listed = strict.list("s").await.unwrap();
    // The newest, and the newest that was verified: somebody who was killed may have made one since.
    assert!(listed.len() <= 2, "seed {seed}: {listed:?}");
    for id in &listed {
        assert!(strict.verify("s", *id, Depth::Full).await.unwrap().is_whole(), "seed {seed}");
    }
    let left = unneeded(&*inner, &strict, &["s"]).await;
    assert!(left.is_empty(), "seed {seed}: {left:?}");
    let marked = all_objects(&*inner).await;
    assert!(!marked.iter().any(|key| key.as_ref().starts_with("begun/")), "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_prunes_that_run_through_one_another_tear_nothing() {
    let dir = scratch();
    let seeds = std::env::var("OPS_BACKUP_SEEDS").map_or(150, |n| n.parse().unwrap());
    for seed in 0..seeds {
        round(seed, dir.path()).await;
    }
}
