//! Stores that fail, lose answers or never answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::retention::Policy;
use ops_backup::{Depth, Fault, FaultStore, Patience, RestoreOptions, Settings, SourceSpec, Vault};
use ops_core::retry::Retry;

use crate::fault_rounds;
use crate::fixture::{all_objects, lenient, once, scratch, tree};

fn patient() -> Patience {
    let retry = Retry::new().attempts(6).first_delay(Duration::from_millis(1));
    Patience::default().deadline(Duration::from_millis(500)).retry(retry)
}

async fn open(store: Arc<dyn ObjectStore>, patience: Patience) -> Result<Vault, ops_backup::Error> {
    let mut settings = Settings::default();
    settings.chunk_size = 64 << 10;
    Vault::builder().settings(settings).patience(patience).open(store, "memory:test").await
}

fn data(dir: &Path) -> SourceSpec {
    let data = dir.join("data");
    fs::create_dir_all(&data).unwrap();
    let noise: Vec<u8> =
        (0..10_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(data.join("a"), noise).unwrap();
    SourceSpec::directory(data)
}

/// Everything that a vault can do, from an empty store.
async fn everything(store: Arc<dyn ObjectStore>, dir: &Path, round: &str) -> Result<(), String> {
    let vault = open(store, patient()).await.map_err(|e| e.to_string())?;
    let cx = lenient(&dir.join("state").join(round));
    let spec = [data(dir)];
    vault.create("s", &spec, &cx).await.map_err(|e| e.to_string())?;
    let made = vault.create("s", &spec, &cx).await.map_err(|e| e.to_string())?;
    let found = vault.drill("s", made.id, &cx).await.map_err(|e| e.to_string())?;
    assert!(found.whole, "{found:?}");
    vault.prune("s", Policy::new().last(1), &cx).await.map_err(|e| e.to_string())?;
    assert_eq!(vault.list("s").await.map_err(|e| e.to_string())?, [made.id]);
    let place = SourceSpec::directory(dir.join(format!("back-{round}")));
    let place = vault.place(&place).map_err(|e| e.to_string())?;
    let restored = vault.restore("s", made.id, &place, &RestoreOptions::default(), &cx).await;
    restored.map_err(|e| e.to_string())?;
    assert_eq!(tree(&dir.join("data")), tree(&dir.join(format!("back-{round}"))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_that_fails_or_never_answers_is_made_again() {
    let dir = scratch();
    let counted = Arc::new(FaultStore::new(Arc::new(InMemory::new()), 0, Fault::Refused));
    everything(counted.clone(), dir.path(), "plain").await.unwrap();
    let calls = counted.calls();
    assert!(calls > 30, "{calls}");
    for fault in [
        Fault::Refused,
        Fault::AnswerLost,
        Fault::CutShort,
        Fault::Slow(Duration::from_millis(20)),
        Fault::Hangs,
        Fault::HangsAfter,
    ] {
        // A hanging call costs its deadline, so fewer of them; together they hit nearly each call.
        let (from, step) = match fault {
            Fault::Refused => (1, 4),
            Fault::AnswerLost => (3, 4),
            Fault::Hangs => (2, 8),
            Fault::CutShort => (2, 4),
            _ => (4, 8),
        };
        for at in (from..=calls).step_by(step) {
            let round = format!("{fault:?}-{at}");
            let store = Arc::new(FaultStore::new(Arc::new(InMemory::new()), at, fault));
            let done = everything(store, dir.path(), &round).await;
            assert_eq!(done, Ok(()), "{round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_many_faults_nothing_torn_is_listed_and_no_success_is_false() {
    // `backup-faults 10000` runs more of them.
    let figures = fault_rounds::run(0..300, 16).await.unwrap_or_else(|why| panic!("{why}"));
    let all = [figures.backups, figures.prunes, figures.restores, figures.drills];
    for (fine, failed) in all {
        assert!(fine > 10 && failed > 0, "{figures}");
    }
    assert!(figures.backups.1 > 50, "{figures}");
    assert!(figures.restored > 100, "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_already_exists_is_read_back() {
    // The answer to the create is lost, and the call that is made again finds its own object.
    let dir = scratch();
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for at in 1..8 {
        let store = Arc::new(FaultStore::new(inner.clone(), at, Fault::AnswerLost).times(2));
        let vault = open(store, patient()).await.unwrap();
        let cx = lenient(&dir.path().join(format!("state-{at}")));
        let made = vault.create("s", &[data(dir.path())], &cx).await.unwrap();
        assert!(vault.verify("s", made.id, Depth::Full).await.unwrap().is_whole());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_after_it_was_given_up_lists_nothing() {
    assert!(with_more_patience(late_manifests).await > 0, "no manifest was late");
}

/// What is to be late must be reached before anything else is late: on a busy machine that takes a
/// longer deadline.
async fn with_more_patience(seen: impl AsyncFn(Duration) -> usize) -> usize {
    for deadline in [100, 400, 1600] {
        match seen(Duration::from_millis(deadline)).await {
            0 => {}
            seen => return seen,
        }
    }
    0
}

/// How many manifests came after their backup had gone back.
async fn late_manifests(deadline: Duration) -> usize {
    let dir = scratch();
    let mut late_manifests = 0;
    for at in 2.. {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        open(inner.clone(), once()).await.unwrap();
        let fault = Fault::Late(deadline * 6);
        let store = Arc::new(FaultStore::new(inner.clone(), at, fault));
        let hasty = once().deadline(deadline);
        let vault = open(store.clone(), hasty).await.unwrap();
        let cx = lenient(&dir.path().join(format!("late-{at}")));
        let made = vault.create("s", &[data(dir.path())], &cx).await;
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while store.under_way() > 0 {
            assert!(std::time::Instant::now() < until, "call {at}: the write never arrived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let look = open(inner.clone(), once()).await.unwrap();
        let listed = look.list("s").await.unwrap();
        for id in &listed {
            assert!(look.verify("s", *id, Depth::Full).await.unwrap().is_whole(), "call {at}");
        }
        assert!(made.is_err() || listed.len() == 1, "call {at}");
        let manifest = |key: &object_store::path::Path| key.as_ref().ends_with("manifest.json");
        let written = all_objects(&*inner).await.iter().filter(|key| manifest(key)).count();
        late_manifests += written - listed.len();
        if store.calls() < at {
            break;
        }
    }
    late_manifests
}

/// A process that dies when the manifest is there, and a prune that has deleted a chunk by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_lost_chunks_is_not_listed_wherever_it_ends_after_its_manifest() {
    let dir = scratch();
    let mut ended = 0;
    for more in 0..8 {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        open(inner.clone(), once()).await.unwrap();
        let store = Arc::new(FaultStore::in_turns(inner.clone()));
        store.grant(1);
        let hasty = once().deadline(Duration::from_secs(2));
        let builder = Vault::builder().patience(hasty).grace(Duration::ZERO);
        let vault = builder.open(store.clone(), "memory:test").await.unwrap();
        let cx = lenient(&dir.path().join(format!("down-{more}")));
        let spec = [data(dir.path())];
        let sabotage = async {
            let waits = async || {
                while store.waiting() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let step = async || {
                waits().await;
                let passed = store.passed();
                store.grant(1);
                while store.passed() == passed {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let chunk = loop {
                step().await;
                waits().await;
                let all = all_objects(&*inner).await;
                if all.iter().any(|key| key.as_ref().ends_with("manifest.json")) {
                    break all.into_iter().find(|key| key.as_ref().starts_with("chunks/")).unwrap();
                }
            };
            inner.delete(&chunk).await.unwrap();
            for _ in 0..more {
                step().await;
            }
            waits().await;
        };
        tokio::select! {
            made = vault.create("s", &spec, &cx) => {
                made.unwrap_err();
                ended += 1;
            }
            () = sabotage => {}
        }
        let look = open(inner.clone(), once()).await.unwrap();
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        // What it has begun ends by itself before anybody may go back.
        while !ops_core::recover(&&look, &cx).await.unwrap().running.is_empty() {
            assert!(tokio::time::Instant::now() < until, "with {more} calls more: it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for id in look.list("s").await.unwrap() {
            let found = look.verify("s", id, Depth::Full).await.unwrap();
            assert!(found.is_whole(), "with {more} calls more: {found:?}");
        }
    }
    assert!(ended < 8, "no operation was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_that_arrives_after_its_prune_went_back_hides_nothing() {
    assert!(with_more_patience(late_tombstones).await > 0, "no tombstone was late");
}

/// How many tombstones were late, of prunes that had gone back.
async fn late_tombstones(deadline: Duration) -> usize {
    let (dir, mut late_tombstones) = (scratch(), 0);
    for at in 2.. {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let look = open(inner.clone(), once()).await.unwrap();
        let cx = lenient(&dir.path().join(format!("buried-{at}")));
        for _ in 0..2 {
            look.create("s", &[data(dir.path())], &cx).await.unwrap();
        }
        let fault = Fault::Late(deadline * 4);
        let store = Arc::new(FaultStore::new(inner.clone(), at, fault));
        let hasty = once().deadline(deadline);
        let vault = open(store.clone(), hasty).await.unwrap();
        let pruned = vault.prune("s", Policy::new().last(1), &cx).await;
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while store.under_way() > 0 {
            assert!(std::time::Instant::now() < until, "call {at}: the write never arrived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let listed = look.list("s").await.unwrap();
        let went_back = |error: &ops_backup::Error| {
            error.report().is_none_or(|report| report.outcome.name() == "rolled_back")
        };
        if pruned.as_ref().is_err_and(went_back) {
            assert_eq!(listed.len(), 2, "call {at}");
            let there = all_objects(&*inner).await;
            late_tombstones += there.iter().filter(|k| k.as_ref().starts_with("tomb")).count();
            // And it can be pruned all the same.
            look.prune("s", Policy::new().last(1), &cx).await.unwrap();
            assert_eq!(look.list("s").await.unwrap(), listed[1..], "call {at}");
        }
        if store.calls() < at {
            break;
        }
    }
    late_tombstones
}
