//! What a prune keeps, deletes, hides and sweeps.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::retention::Policy;
use ops_backup::{
    BackupId, ByteStream, Depth, Dump, Error, ErrorKind, Fault, FaultStore, Settings, Source,
    SourceSpec, Unit, Vault,
};
use ops_core::{Context, Environment, Outcome, Plan, Refusal};

use crate::fixture::{all_objects, lenient, once, scratch, vault};

/// A directory with other content each time: what these backups share, another file tests.
fn data(dir: &Path) -> SourceSpec {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let data = dir.join("data");
    fs::create_dir_all(&data).unwrap();
    let salt = NEXT.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b1);
    let word = |n: u32| (n ^ salt).wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
    fs::write(data.join("a"), (0..10_000).flat_map(word).collect::<Vec<u8>>()).unwrap();
    SourceSpec::directory(data)
}

async fn backups(vault: &Vault, set: &str, count: usize, dir: &Path) -> Vec<BackupId> {
    let cx = lenient(&dir.join("state"));
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(vault.create(set, &[data(dir)], &cx).await.unwrap().id);
    }
    made
}

async fn owned_by(store: &dyn ObjectStore, id: BackupId) -> Vec<String> {
    let all = all_objects(store).await.into_iter().map(|key| key.to_string());
    all.filter(|key| key.contains(&id.to_string()) && !key.starts_with("tombstones/")).collect()
}

fn facts(plan: &Plan, what: &str) -> Vec<String> {
    let of = |key: &String| key.strip_prefix(what).map(|id| id.trim().to_owned());
    plan.facts.keys().filter_map(of).collect()
}

fn soon() -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_says_why_and_deletes_exactly_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = vault(store.clone()).await;
    let made = backups(&vault, "s", 5, dir.path()).await;
    let other = backups(&vault, "other", 2, dir.path()).await;
    assert!(vault.verify("s", made[1], Depth::Full).await.unwrap().attested);
    let policy = Policy::new().last(2);
    let before = all_objects(&*store).await;
    let plan = vault.plan_prune("s", policy, soon()).await.unwrap();
    assert_eq!(all_objects(&*store).await, before, "planning changes nothing");
    let id = |at: usize| made[at].to_string();
    assert_eq!(facts(&plan, "keep "), [id(1), id(3), id(4)]);
    assert_eq!(facts(&plan, "delete "), [id(0), id(2)]);
    assert!(plan.to_string().contains("the newest that is verified"), "{plan}");
    assert!(plan.to_string().contains("destroys"), "{plan}");
    let nobody =
        Context::builder(dir.path().join("no")).environment(Environment::Development).build();
    let refused = nobody.execute(plan.clone(), &&vault).await.unwrap_err();
    assert!(matches!(refused.report().unwrap().outcome, Outcome::Refused { .. }));
    assert_eq!(all_objects(&*store).await, before, "and without approval nothing is deleted");
    let cx = lenient(&dir.path().join("state"));
    cx.execute(plan, &&vault).await.unwrap();
    assert_eq!(vault.list("s").await.unwrap(), [made[1], made[3], made[4]]);
    assert_eq!(vault.list("other").await.unwrap(), other);
    for gone in [made[0], made[2]] {
        assert!(owned_by(&*store, gone).await.is_empty());
        assert_eq!(vault.show("s", gone).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let again = vault.plan_prune("s", policy, soon()).await.unwrap();
    assert!(again.is_empty(), "{again}");
    for (set, id) in [("s", made[1]), ("s", made[3]), ("s", made[4]), ("other", other[0])] {
        assert!(vault.verify(set, id, Depth::Full).await.unwrap().is_whole());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_never_emptied_and_a_policy_needs_a_rule() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(Arc::new(InMemory::new())).await;
    let error = vault.plan_prune("s", Policy::new().last(1), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let made = backups(&vault, "s", 3, dir.path()).await;
    let error = vault.plan_prune("s", Policy::new(), soon()).await.unwrap_err();
    assert!(error.to_string().contains("at least one of last"), "{error}");
    let cx = lenient(&dir.path().join("state"));
    // Planned while there was a third one, which another prune then takes.
    let stale = vault.plan_prune("s", Policy::new().last(1), soon()).await.unwrap();
    let newest = vault.plan_prune("s", Policy::new().last(1), made[0].moment()).await.unwrap();
    assert!(newest.is_empty(), "all but the first are of the future: {newest}");
    vault.prune("s", Policy::new().yearly(1), &cx).await.unwrap();
    assert_eq!(vault.list("s").await.unwrap(), [made[2]]);
    cx.execute(stale, &&vault).await.unwrap();
    assert_eq!(vault.list("s").await.unwrap(), [made[2]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_backup_left_is_swept_after_the_grace_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    let url = format!("file://{}", folder.display());
    let vault = Vault::builder().open_url(&url).await.unwrap();
    let made = backups(&vault, "s", 1, dir.path()).await;
    // What kill -9 leaves when nobody recovers: chunks, and a file half written.
    let id = "01JD2Q5W3V8Y7K6M4N9P0R1S2T";
    let chunk = folder.join(format!("chunks/ab/ab.{id}.zst"));
    let half = folder.join(format!("chunks/ab/cd.{id}.zst#1"));
    fs::create_dir_all(chunk.parent().unwrap()).unwrap();
    fs::write(&chunk, "x").unwrap();
    fs::write(&half, "x").unwrap();
    let policy = Policy::new().last(1);
    assert!(vault.plan_prune("s", policy, soon()).await.unwrap().is_empty());
    let old = filetime::FileTime::from_unix_time(1_700_000_000, 0);
    filetime::set_file_mtime(&chunk, old).unwrap();
    filetime::set_file_mtime(&half, old).unwrap();
    let plan = vault.plan_prune("s", policy, soon()).await.unwrap();
    assert_eq!(facts(&plan, "delete "), [id]);
    assert_eq!(plan.facts["half-written files"], "1");
    // It goes on after the plan: the store's clock tells, and it stays.
    filetime::set_file_mtime(&chunk, filetime::FileTime::now()).unwrap();
    let cx = lenient(&dir.path().join("state"));
    cx.execute(plan, &&vault).await.unwrap();
    assert!(chunk.exists() && !half.exists());
    filetime::set_file_mtime(&chunk, old).unwrap();
    vault.prune("s", policy, &cx).await.unwrap();
    assert!(!chunk.exists());
    assert!(vault.verify("s", made[0], Depth::Full).await.unwrap().is_whole());
    // The tombstone outlives it by the grace.
    let tombstone = folder.join(format!("tombstones/{id}.json"));
    assert!(tombstone.exists());
    assert!(vault.plan_prune("s", policy, soon()).await.unwrap().is_empty());
    filetime::set_file_mtime(&tombstone, old).unwrap();
    vault.prune("s", policy, &cx).await.unwrap();
    assert!(!tombstone.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_call_of_the_store_fails_each_listed_backup_is_whole() {
    let dir = scratch();
    let origin = Arc::new(InMemory::new());
    let made = backups(&vault(origin.clone()).await, "s", 3, dir.path()).await;
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let (mut failed, mut at) = (0, 0);
        loop {
            at += 1;
            let inner: Arc<dyn ObjectStore> = Arc::new(origin.fork());
            let faulty = Arc::new(FaultStore::new(inner.clone(), at + 1, fault));
            let cx = Context::builder(dir.path().join(format!("{fault:?}-{at}")))
                .environment(Environment::Development)
                .approver(ops_core::ApproveIf::new("test", |_: &_| true))
                .finish_budget(Duration::ZERO)
                .build();
            let pruner = vault(faulty.clone()).await;
            let pruned = pruner.prune("s", Policy::new().last(1), &cx).await;
            let look = vault(inner.clone()).await;
            let listed = look.list("s").await.unwrap();
            for id in &listed {
                assert!(look.verify("s", *id, Depth::Full).await.unwrap().is_whole(), "call {at}");
            }
            if let Ok(report) = pruned {
                assert_eq!(listed, made[2..], "call {at}");
                failed += u32::from(report.outcome != Outcome::Completed);
            } else {
                assert_eq!(listed, made, "call {at}: all or none");
                failed += 1;
            }
            // Whatever happened: the next one ends it.
            let _ = ops_core::recover(&&look, &cx).await.unwrap();
            look.prune("s", Policy::new().last(1), &cx).await.unwrap();
            assert_eq!(look.list("s").await.unwrap(), made[2..]);
            assert!(owned_by(&*inner, made[0]).await.is_empty(), "call {at}");
            if faulty.calls() < at + 1 {
                break;
            }
        }
        assert!(failed > 8, "{fault:?}: {failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_read_stops_the_sweep_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let vault = vault(store.clone()).await;
    let made = backups(&vault, "s", 2, dir.path()).await;
    let other = backups(&vault, "other", 1, dir.path()).await;
    let key = format!("sets/other/{}/manifest.json", other[0]);
    store.put(&key.as_str().into(), "rubbish".into()).await.unwrap();
    let cx = lenient(&dir.path().join("state"));
    let error = vault.prune("s", Policy::new().last(1), &cx).await.unwrap_err();
    assert!(error.to_string().contains(&other[0].to_string()), "{error}");
    assert_eq!(vault.list("s").await.unwrap(), made);
}

/// A source during whose reading a prune runs that gives it up.
#[derive(Debug)]
struct Slow {
    store: Arc<dyn ObjectStore>,
    pruner: Vault,
    cx: Context,
}

impl Source for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { Ok("slow".to_owned()) }.boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: "u".into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, backup: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        let (pruner, cx, store) = (self.pruner.clone(), self.cx.clone(), self.store.clone());
        let ours = format!(".{backup}.");
        let first = stream::iter([Ok(Bytes::from(vec![7; 100_000]))]);
        let second = stream::once(async move {
            // Its first chunk is up.
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while !all_objects(&*store).await.iter().any(|key| key.as_ref().contains(&ours)) {
                assert!(std::time::Instant::now() < until, "no chunk was uploaded");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            pruner.prune("s", Policy::new().last(1), &cx).await?;
            Ok(Bytes::from_static(b"end"))
        });
        async { Ok(first.chain(second).boxed().into()) }.boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        _: ByteStream,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }

    fn smoke<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_runs_is_left_alone_and_one_that_was_given_up_is_not_listed() {
    for (grace, survives) in [(Duration::from_hours(1), true), (Duration::ZERO, false)] {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let first = backups(&vault(store.clone()).await, "s", 1, dir.path()).await;
        // Another program, with a state directory of its own: no lock keeps them apart.
        let open = |grace| Vault::builder().grace(grace).patience(once());
        let pruner = open(grace).open(store.clone(), "the same").await.unwrap();
        let slow = Slow { store: store.clone(), pruner, cx: lenient(&dir.path().join("other")) };
        let mut settings = Settings::default();
        settings.chunk_size = 64 << 10;
        let vault = open(grace)
            .settings(settings)
            .source("slow", slow)
            .open(store.clone(), "memory:test")
            .await
            .unwrap();
        let cx = lenient(&dir.path().join("state"));
        let made = vault.create("s", &[SourceSpec::named("slow")], &cx).await;
        let listed = vault.list("s").await.unwrap();
        for id in &listed {
            assert!(vault.verify("s", *id, Depth::Full).await.unwrap().is_whole());
        }
        if survives {
            assert_eq!(listed, [first[0], made.unwrap().id]);
        } else {
            let error = made.unwrap_err();
            assert!(
                error.to_string().contains("missing")
                    || error.to_string().contains("lost")
                    || error.to_string().contains("gave backup"),
                "{error}"
            );
            assert_eq!(listed, first);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_files_are_ours_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    fs::create_dir_all(folder.join("reports")).unwrap();
    let url = format!("file://{}", folder.display());
    let open = || Vault::builder().grace(Duration::ZERO).patience(once()).open_url(&url);
    let vault = open().await.unwrap();
    backups(&vault, "s", 2, dir.path()).await;
    let (ours, others) =
        (["chunks/00/x#7", "format.json#2"], ["report#3", "reports/format.json#1", "chunks#4"]);
    for name in ours.iter().chain(&others) {
        fs::write(folder.join(name), "half").unwrap();
    }
    let cx = lenient(&dir.path().join("state"));
    let plan = vault.plan_prune("s", Policy::new().last(1), soon()).await.unwrap();
    assert_eq!(plan.facts["half-written files"], "2");
    cx.execute(plan, &&vault).await.unwrap();
    assert!(ours.iter().all(|name| !folder.join(name).exists()));
    assert!(others.iter().all(|name| folder.join(name).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_could_not_look_is_no_plan() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let healthy = vault(store.clone()).await;
    backups(&healthy, "s", 3, dir.path()).await;
    let now = soon();
    let whole = healthy.plan_prune("s", Policy::new().last(1), now).await.unwrap();
    for at in 2.. {
        let faulty = Arc::new(FaultStore::new(store.clone(), at, Fault::Refused));
        let vault = vault(faulty.clone()).await;
        match vault.plan_prune("s", Policy::new().last(1), now).await {
            Ok(plan) => assert_eq!(plan.facts, whole.facts, "call {at}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Store, "call {at}: {error}"),
        }
        if faulty.calls() < at {
            break;
        }
    }
}
