//! Chunks as they are stored, and streams put together from them again.
//!
//! A chunk is compressed, and encrypted, in memory before its upload begins. So an upload is a
//! single atomic PUT, and there is no half an object to abort.

use std::io::Read as _;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::digest::{PlainDigest, sha256};
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::manifest::{ChunkRecord, UnitRecord};
use crate::repository::{Repository, is_encrypted};
use crate::source::ByteStream;

/// A chunk is held in memory, so no manifest may ask for more.
const MAX_CHUNK: u64 = 1 << 30;
/// How many chunks are fetched and decompressed at once.
const READ_AHEAD: usize = 2;

/// The stored bytes of a chunk.
pub(crate) fn encode(
    plain: &[u8],
    level: i32,
    identity: Option<&Identity>,
) -> Result<Bytes, Error> {
    // Of what is not written nothing is taken from the system.
    let mut packed = Buffer::new(zstd::zstd_safe::compress_bound(plain.len()));
    let length = zstd::bulk::compress_to_buffer(plain, packed.as_mut(), level)
        .map_err(|e| Error::new(ErrorKind::Source, "cannot compress a chunk").caused_by(e))?;
    let packed = packed.freeze().slice(..length);
    match identity {
        None => Ok(packed),
        Some(identity) => identity.encrypt(&packed).map(Bytes::from),
    }
}

/// The plain bytes of a chunk, if they are what the manifest says.
fn decode(
    stored: Bytes,
    chunk: &ChunkRecord,
    identity: Option<&Identity>,
) -> Result<Bytes, String> {
    if sha256(&stored) != chunk.stored_sha256 {
        return Err("its SHA-256 is not the manifest's".to_owned());
    }
    let packed = match identity {
        None => stored,
        // What is decrypted is smaller than what is stored.
        Some(identity) => {
            identity.decrypt(&stored, chunk.stored_size).map_err(|e| e.to_string())?.into()
        }
    };
    // A bound, so that a hostile object cannot fill the memory; and no more memory is taken than is
    // written, whatever the manifest says.
    let size = usize::try_from(chunk.plain_size).map_err(|e| e.to_string())?;
    let mut plain = Buffer::new(size);
    let mut decoder = zstd::stream::read::Decoder::new(&*packed).map_err(|e| e.to_string())?;
    let wrong = |_| "its size is wrong, or it cannot be decompressed".to_owned();
    decoder.read_exact(plain.as_mut()).map_err(wrong)?;
    match decoder.read(&mut [0]).map_err(|e| e.to_string())? {
        0 => Ok(plain.freeze()),
        _ => Err("its size is wrong".to_owned()),
    }
}

/// Fetches a chunk, and answers its plain bytes only if all of them are right.
pub(crate) async fn fetch(
    repository: &Repository,
    chunk: &ChunkRecord,
    cancel: &CancellationToken,
) -> Result<Bytes, Error> {
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, format!("object `{}` is damaged: {why}", chunk.key))
            .remedy("use another backup of the set")
    };
    // What does not compress grows a little.
    if chunk.plain_size > MAX_CHUNK || chunk.stored_size > 2 * MAX_CHUNK {
        return Err(corrupt("the manifest gives it a size that no program writes"));
    }
    if repository.identity().is_none() && is_encrypted(&chunk.key) {
        let message = format!("object `{}` is encrypted, and the repository has no key", chunk.key);
        return Err(Error::new(ErrorKind::WrongKey, message)
            .remedy("`format.json` is not the one of this repository: put that back"));
    }
    let mut why = String::new();
    // Twice: no store checks what it sends, so the first time it may be the way that is to blame.
    for _ in 0..2 {
        repository.turn(chunk.stored_size, cancel).await?;
        let stored = repository.get(&chunk.key, chunk.stored_size).await?;
        metrics::counter!("ops_backup_fetched_bytes_total").increment(stored.len() as u64);
        let (expected, identity) = (chunk.clone(), repository.identity().cloned());
        let decoded = move || decode(stored, &expected, identity.as_deref());
        match tokio::task::spawn_blocking(decoded).await.map_err(Error::panicked)? {
            Ok(plain) => {
                if let Some(watch) = repository.watch() {
                    watch.add(plain.len() as u64);
                }
                return Ok(plain);
            }
            Err(error) => why = error,
        }
    }
    Err(corrupt(&why))
}

type Chunks = BoxStream<'static, Result<Bytes, Error>>;

/// The plain bytes of a unit. Ends with an error if they are not what the manifest says, or if the
/// token was cancelled. A few chunks are read ahead.
pub(crate) fn read(
    repository: Repository,
    unit: UnitRecord,
    cancel: CancellationToken,
) -> ByteStream {
    let digest = match &*unit.plain_sha256 {
        "" => repository.plain_digest(),
        _ => PlainDigest::Sha256(crate::digest::Hasher::default()),
    };
    let UnitRecord { name, plain_sha256, plain_blake3, chunks, .. } = unit;
    let fetching = cancel.clone();
    let chunks: Chunks = stream::iter(chunks)
        .map(move |chunk| {
            let (repository, cancel) = (repository.clone(), fetching.clone());
            async move { fetch(&repository, &chunk, &cancel).await }
        })
        .buffered(READ_AHEAD)
        .boxed();
    let state = Some((chunks, digest, (plain_sha256, plain_blake3), name, cancel));
    stream::unfold(state, |state| async {
        let (mut chunks, mut digest, expected, name, cancel) = state?;
        if cancel.is_cancelled() {
            return Some((Err(Error::cancelled()), None));
        }
        match chunks.try_next().await {
            Ok(Some(bytes)) => {
                let digested = tokio::task::spawn_blocking(move || {
                    digest.update(&bytes);
                    (digest, bytes)
                });
                match digested.await {
                    Ok((digest, bytes)) => {
                        Some((Ok(bytes), Some((chunks, digest, expected, name, cancel))))
                    }
                    Err(panic) => Some((Err(Error::panicked(panic)), None)),
                }
            }
            Ok(None) if digest.finish() == expected => None,
            Ok(None) => {
                let message = format!("the digest of unit `{name}` is not the manifest's");
                Some((Err(Error::new(ErrorKind::Corrupt, message)), None))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Repository {
    /// A new digest of plain bytes.
    pub fn plain_digest(&self) -> PlainDigest {
        let hasher = self.identity().map_or_else(blake3::Hasher::new, |key| key.content_hasher());
        PlainDigest::Blake3(Box::new(hasher))
    }
}
