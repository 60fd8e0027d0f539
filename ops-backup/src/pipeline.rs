//! From a stream to stored chunks: while one chunk is uploaded, the next ones are compressed, and
//! the one after them is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::chunk::encode;
use crate::cut::Cutter;
use crate::digest::sha256;
use crate::error::Error;
use crate::manifest::{BackupId, ChunkRecord, Settings, UnitRecord};
use crate::repository::Repository;
use crate::reuse::{Content, Known};
use crate::source::ByteStream;
use crate::throttle::Throttle;
use crate::vault::Vault;

/// How long uploads that are under way are waited for when the backup has failed: what arrives
/// after the way back has looked, only a prune finds.
const SETTLE: Duration = Duration::from_secs(5);

/// Writes the chunks of one backup. Several units may be written at once.
pub(crate) struct Writer<'a> {
    shared: Arc<Shared>,
    chunk_size: usize,
    cancel: &'a CancellationToken,
    /// Told how many more plain bytes are written.
    progress: &'a (dyn Fn(u64) + Sync),
    /// How quickly the source is read.
    limit: Option<Throttle>,
    /// The memory for chunks, beside those that are still being cut, in eighths of the largest.
    room: Arc<Semaphore>,
    /// All of it.
    most: u32,
}

struct Shared {
    repository: Repository,
    id: BackupId,
    level: i32,
    known: Known,
    cancel: CancellationToken,
    /// What this backup has, or is just uploading, by content: the same content is uploaded once.
    written: Mutex<HashMap<Content, Arc<OnceCell<ChunkRecord>>>>,
}

type Stored = (usize, Result<ChunkRecord, Error>);

impl<'a> Writer<'a> {
    pub fn new(
        vault: &Vault,
        id: BackupId,
        settings: Settings,
        known: Known,
        cancel: &'a CancellationToken,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        let shared = Shared {
            repository: vault.repository.clone(),
            id,
            level: settings.zstd_level,
            known,
            cancel: cancel.clone(),
            written: Mutex::default(),
        };
        // Few chunks have more than half of the largest size.
        let most = u32::try_from(vault.parallel.clamp(1, 1 << 16)).unwrap_or(1 << 16) * 4;
        Self {
            shared: Arc::new(shared),
            chunk_size: settings.chunk_size,
            cancel,
            progress,
            limit: vault.read_limit.clone(),
            room: Arc::new(Semaphore::new(most as usize)),
            most,
        }
    }

    pub async fn unit(&self, name: String, bytes: ByteStream) -> Result<UnitRecord, Error> {
        let mut tasks = JoinSet::new();
        // A source that is stuck must not keep the operation from going back.
        let written = self.cancel.run_until_cancelled(self.read(&mut tasks, name, bytes)).await;
        let written = written.unwrap_or_else(|| Err(Error::cancelled()));
        if written.is_err() {
            let settled = async { while tasks.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(SETTLE, settled).await;
            tasks.shutdown().await;
        }
        written
    }

    async fn read(
        &self,
        tasks: &mut JoinSet<Stored>,
        name: String,
        mut bytes: ByteStream,
    ) -> Result<UnitRecord, Error> {
        let repository = &self.shared.repository;
        let mut digest = repository.plain_digest();
        let seed = repository.identity().map_or(0, |identity| identity.cut_seed());
        let mut cutter = Cutter::new(self.chunk_size, seed);
        let mut plain_size = 0;
        let mut chunks = Vec::new();
        let read = metrics::counter!("ops_backup_read_bytes_total");
        loop {
            tokio::select! {
                biased;
                Some(done) = tasks.join_next() => self.collect(&mut chunks, done)?,
                piece = bytes.next() => {
                    let Some(piece) = piece else { break };
                    let piece = piece?;
                    let size = piece.len() as u64;
                    if let Some(limit) = &self.limit {
                        limit.turn(size, self.cancel).await?;
                    }
                    read.increment(size);
                    plain_size += size;
                    digest.update(&piece);
                    cutter.push(&piece);
                    while let Some(chunk) = cutter.next() {
                        self.begin(tasks, &mut chunks, chunk).await;
                    }
                }
            }
        }
        while let Some(chunk) = cutter.rest() {
            self.begin(tasks, &mut chunks, chunk).await;
        }
        while let Some(done) = tasks.join_next().await {
            self.collect(&mut chunks, done)?;
        }
        let (plain_sha256, plain_blake3) = digest.finish();
        Ok(UnitRecord {
            name,
            plain_size,
            plain_sha256,
            plain_blake3,
            rows: std::collections::BTreeMap::new(),
            chunks: chunks.into_iter().flatten().collect(),
        })
    }

    /// Waits until there is room in memory.
    async fn begin(
        &self,
        tasks: &mut JoinSet<Stored>,
        chunks: &mut Vec<Option<ChunkRecord>>,
        plain: Bytes,
    ) {
        let eighths = plain.len().div_ceil((self.chunk_size / 8).max(1));
        let size = u32::try_from(eighths).unwrap_or(u32::MAX).clamp(1, self.most);
        let permit = self.room.clone().acquire_many_owned(size).await;
        let at = chunks.len();
        chunks.push(None);
        let shared = self.shared.clone();
        tasks.spawn(async move { (at, shared.store(plain, permit.ok()).await) });
    }

    fn collect(
        &self,
        chunks: &mut [Option<ChunkRecord>],
        done: Result<Stored, JoinError>,
    ) -> Result<(), Error> {
        let (at, record) = done.map_err(Error::panicked)?;
        let record = record?;
        ops_core::fault::point("after a chunk");
        let size = record.plain_size;
        (self.progress)(size);
        chunks[at] = Some(record);
        Ok(())
    }
}

impl Shared {
    async fn store(
        self: Arc<Self>,
        plain: Bytes,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<ChunkRecord, Error> {
        let (shared, bytes) = (self.clone(), plain.clone());
        let content = move || shared.repository.content(&bytes);
        let content = tokio::task::spawn_blocking(content).await.map_err(Error::panicked)?;
        if let Some(known) = self.known.get(&content) {
            metrics::counter!("ops_backup_reused_bytes_total").increment(known.plain_size);
            return Ok(known.clone());
        }
        let cell = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.entry(content).or_default().clone()
        };
        let record = cell.get_or_try_init(|| self.upload(content, plain)).await.cloned();
        drop(permit);
        record
    }

    async fn upload(&self, content: Content, plain: Bytes) -> Result<ChunkRecord, Error> {
        let (level, plain_size) = (self.level, plain.len() as u64);
        let identity = self.repository.identity().cloned();
        let encoded = move || {
            let stored = encode(&plain, level, identity.as_deref())?;
            Ok::<_, Error>((sha256(&stored), stored))
        };
        let encoded = tokio::task::spawn_blocking(encoded).await.map_err(Error::panicked)?;
        let (stored_sha256, stored) = encoded?;
        let key = self.repository.chunk_key(&content, self.id);
        let stored_size = stored.len() as u64;
        self.repository.turn(stored_size, &self.cancel).await?;
        self.repository.put(&key, stored).await?;
        metrics::counter!("ops_backup_stored_bytes_total").increment(stored_size);
        Ok(ChunkRecord { key, stored_size, stored_sha256, plain_size })
    }
}
