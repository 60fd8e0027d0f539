//! What the tests share: vaults, databases, trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::{BackupId, Depth, Error, Patience, Settings, SourceSpec, Vault, VaultBuilder};
use ops_core::retry::Retry;
use ops_core::{ApproveIf, Context, Environment};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};

/// A folder in memory where there is one: thousands of fsyncs say nothing about a store.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Each call once: what fails, fails.
pub fn once() -> Patience {
    Patience::default().retry(Retry::new().attempts(1))
}

pub fn lenient(state: &Path) -> Context {
    Context::builder(state)
        .environment(Environment::Development)
        .approver(ApproveIf::new("test", |_: &_| true))
        .build()
}

/// Small chunks, and each call once.
pub fn builder() -> VaultBuilder {
    let mut settings = Settings::default();
    settings.chunk_size = 64 << 10;
    Vault::builder().settings(settings).patience(once())
}

pub async fn vault(store: Arc<dyn ObjectStore>) -> Vault {
    builder().open(store, "memory:test").await.unwrap()
}

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// An empty directory that is backed up into a vault in memory.
pub struct Scene {
    pub dir: tempfile::TempDir,
    /// The directory.
    pub data: PathBuf,
    pub store: Arc<dyn ObjectStore>,
    pub vault: Vault,
    pub cx: Context,
}

impl Scene {
    pub async fn new() -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), memory());
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let (vault, cx) = (vault(store.clone()).await, lenient(&dir.path().join("state")));
        Self { dir, data, store, vault, cx }
    }

    pub fn spec(&self) -> SourceSpec {
        SourceSpec::directory(&self.data)
    }
}

/// Flips a bit of each byte of each object, but of attestations, and asks each time whether the
/// backup of set `s` is found damaged; `look` is called with each object when it is sound again.
/// How many bytes there were.
pub async fn flip_every_byte(
    store: &dyn ObjectStore,
    backup: ops_backup::BackupId,
    open: impl AsyncFn() -> Result<Vault, Error>,
    look: impl AsyncFn(&object_store::path::Path),
) -> usize {
    let whole = async || -> bool {
        let Ok(vault) = open().await else { return false };
        vault.verify("s", backup, Depth::Full).await.is_ok_and(|found| found.is_whole())
    };
    assert!(whole().await);
    let mut flips = 0;
    for key in all_objects(store).await {
        if key.as_ref().contains("/attest/") {
            continue;
        }
        let good = store.get(&key).await.unwrap().bytes().await.unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            store.put(&key, bad.into()).await.unwrap();
            assert!(!whole().await, "byte {at} of {key}");
            flips += 1;
        }
        store.put(&key, good.into()).await.unwrap();
        look(&key).await;
    }
    assert!(whole().await);
    flips
}

pub async fn database(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .disable_statement_logging()
        .connect()
        .await
        .unwrap()
}

/// A database that was backed up and changed since, with its log beside it.
pub struct Changed {
    pub dir: tempfile::TempDir,
    pub vault: Vault,
    pub cx: Context,
    pub spec: SourceSpec,
    pub backup: BackupId,
    pub db: SqliteConnection,
}

impl Changed {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("live")).unwrap();
        let path = dir.path().join("live/app.db");
        let mut db = database(&path).await;
        execute(&mut db, "CREATE TABLE t(n); INSERT INTO t VALUES(1)").await;
        let vault = vault(memory()).await;
        let cx = lenient(&dir.path().join("state"));
        let spec = SourceSpec::sqlite(path);
        let made = vault.create("s", std::slice::from_ref(&spec), &cx).await.unwrap();
        execute(&mut db, "UPDATE t SET n = 2").await;
        Self { dir, vault, cx, spec, backup: made.id, db }
    }
}

pub async fn execute(db: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(db).await.unwrap();
}

pub async fn number(db: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// Everything below a folder: kind, mode, time of change, content or link target.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, (char, u32, i64, Vec<u8>)> {
    let entry = |entry: walkdir::Result<walkdir::DirEntry>| {
        let entry = entry.unwrap();
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let name = path.strip_prefix(root).unwrap().to_owned();
        let of = if meta.is_symlink() {
            ('l', 0, meta.mtime(), fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
        } else if meta.is_dir() {
            ('d', meta.mode(), meta.mtime(), Vec::new())
        } else {
            ('f', meta.mode(), meta.mtime(), fs::read(path).unwrap())
        };
        (name, of)
    };
    walkdir::WalkDir::new(root).into_iter().map(entry).collect()
}

pub fn names(dir: &Path) -> Vec<String> {
    let name = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

pub async fn all_objects(store: &dyn ObjectStore) -> Vec<object_store::path::Path> {
    use futures::TryStreamExt as _;
    store.list(None).map_ok(|object| object.location).try_collect().await.unwrap()
}

/// The chunks that no listed backup of these sets names.
pub async fn unneeded(store: &dyn ObjectStore, vault: &Vault, sets: &[&str]) -> Vec<String> {
    let mut keys: Vec<_> = all_objects(store).await.iter().map(ToString::to_string).collect();
    keys.retain(|key| key.starts_with("chunks/"));
    for set in sets {
        for id in vault.list(set).await.unwrap() {
            let sources = vault.show(set, id).await.unwrap().sources;
            for chunk in sources.into_iter().flat_map(|s| s.units).flat_map(|u| u.chunks) {
                keys.retain(|key| *key != chunk.key);
            }
        }
    }
    keys
}
