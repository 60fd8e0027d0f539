//! Chunks: a stream is cut into them on the way in, and put together again on the way out.
//!
//! A chunk is compressed in memory before its upload begins. So its key can hold the digest of its
//! content, an upload is a single atomic PUT, and there is no half an object to abort.

use std::collections::BTreeMap;
use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;
use tokio_util::sync::CancellationToken;

use crate::digest::{Hasher, sha256};
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, ChunkRecord, Settings, UnitRecord};
use crate::repository::Repository;
use crate::source::ByteStream;

/// A chunk is held in memory, so no manifest may ask for more.
const MAX_CHUNK: usize = 1 << 30;

/// Writes the chunks of one backup.
pub(crate) struct Writer<'a> {
    pub repository: &'a Repository,
    pub id: BackupId,
    pub settings: Settings,
    pub cancel: &'a CancellationToken,
    /// Told the plain bytes written so far.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// What this backup has uploaded, by content: the same content is uploaded once.
    pub written: BTreeMap<String, ChunkRecord>,
    pub total: u64,
}

impl Writer<'_> {
    pub async fn unit(&mut self, name: String, mut bytes: ByteStream) -> Result<UnitRecord, Error> {
        let mut hasher = Hasher::default();
        let mut unit = UnitRecord {
            name,
            plain_size: 0,
            plain_sha256: String::new(),
            rows: BTreeMap::new(),
            chunks: Vec::new(),
        };
        let size = self.settings.chunk_size.clamp(1, MAX_CHUNK);
        let mut buffer = BytesMut::new();
        // A source that is stuck must not keep the operation from going back.
        let cancel = self.cancel;
        loop {
            let next = cancel.run_until_cancelled(bytes.next()).await;
            let Some(piece) = next.ok_or_else(Error::cancelled)? else { break };
            let mut piece = piece?;
            while !piece.is_empty() {
                let take = piece.len().min(size - buffer.len());
                let head = piece.split_to(take);
                hasher.update(&head);
                buffer.extend_from_slice(&head);
                if buffer.len() == size {
                    let full = buffer.split().freeze();
                    self.chunk(&mut unit, full).await?;
                }
            }
        }
        if !buffer.is_empty() {
            self.chunk(&mut unit, buffer.freeze()).await?;
        }
        unit.plain_sha256 = hasher.finish();
        Ok(unit)
    }

    async fn chunk(&mut self, unit: &mut UnitRecord, plain: Bytes) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let plain_size = plain.len() as u64;
        let level = self.settings.zstd_level;
        let (content, stored) = tokio::task::spawn_blocking(move || {
            let stored = zstd::bulk::compress(&plain, level);
            (sha256(&plain), stored)
        })
        .await
        .map_err(Error::panicked)?;
        let record = if let Some(known) = self.written.get(&content) {
            known.clone()
        } else {
            let stored = stored.map_err(|e| {
                Error::new(ErrorKind::Source, "cannot compress a chunk").caused_by(e)
            })?;
            let key = Repository::chunk_key(&content, self.id);
            let record = ChunkRecord {
                stored_size: stored.len() as u64,
                stored_sha256: sha256(&stored),
                plain_size,
                key,
            };
            self.repository.put(&record.key, stored.into()).await?;
            ops_core::fault::point("after a chunk");
            self.written.insert(content, record.clone());
            record
        };
        unit.chunks.push(record);
        unit.plain_size += plain_size;
        self.total += plain_size;
        (self.progress)(self.total);
        Ok(())
    }
}

/// Fetches a chunk, and answers its plain bytes only if all of them are right.
pub(crate) async fn fetch(repository: &Repository, chunk: &ChunkRecord) -> Result<Bytes, Error> {
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, format!("object `{}` is damaged: {why}", chunk.key))
            .remedy("use another backup of the set")
    };
    // What does not compress grows a little.
    if chunk.plain_size > MAX_CHUNK as u64 || chunk.stored_size > 2 * MAX_CHUNK as u64 {
        return Err(corrupt("the manifest gives it a size that no program writes"));
    }
    let stored = repository.get(&chunk.key, chunk.stored_size).await?;
    let expected = (chunk.stored_sha256.clone(), chunk.plain_size);
    let plain = tokio::task::spawn_blocking(move || {
        if sha256(&stored) != expected.0 {
            return Err("its SHA-256 is not the manifest's".to_owned());
        }
        // A bound, so that a hostile object cannot fill the memory.
        let mut plain = Vec::new();
        zstd::stream::read::Decoder::new(&*stored)
            .and_then(|decoder| decoder.take(expected.1.saturating_add(1)).read_to_end(&mut plain))
            .map_err(|e| e.to_string())?;
        if plain.len() as u64 == expected.1 { Ok(plain) } else { Err("its size is wrong".into()) }
    })
    .await
    .map_err(Error::panicked)?;
    plain.map(Bytes::from).map_err(|why| corrupt(&why))
}

/// The plain bytes of a unit. Ends with an error if they are not what the manifest says, or if the
/// token was cancelled.
pub(crate) fn read(
    repository: Repository,
    unit: UnitRecord,
    cancel: CancellationToken,
) -> ByteStream {
    let state = Some((repository, unit, cancel, 0_usize, Hasher::default()));
    stream::unfold(state, |state| async {
        let (repository, unit, cancel, at, mut hasher) = state?;
        if cancel.is_cancelled() {
            return Some((Err(Error::cancelled()), None));
        }
        let Some(chunk) = unit.chunks.get(at) else {
            if hasher.finish() == unit.plain_sha256 {
                return None;
            }
            let error = Error::new(
                ErrorKind::Corrupt,
                format!("the SHA-256 of unit `{}` is not the manifest's", unit.name),
            );
            return Some((Err(error), None));
        };
        match fetch(&repository, chunk).await {
            Ok(bytes) => {
                hasher.update(&bytes);
                Some((Ok(bytes), Some((repository, unit, cancel, at + 1, hasher))))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}
