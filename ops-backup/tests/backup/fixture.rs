//! What the tests share: vaults, databases, trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use ops_backup::{Patience, Settings, Vault};
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

pub async fn vault(store: Arc<dyn ObjectStore>) -> Vault {
    let mut settings = Settings::default();
    settings.chunk_size = 64 << 10;
    Vault::builder().settings(settings).patience(once()).open(store, "memory:test").await.unwrap()
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
