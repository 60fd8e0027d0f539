//! Whether a backup is whole.

use std::collections::HashSet;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::chunk;
use crate::error::{Error, ErrorKind};
use crate::manifest::{ChunkRecord, Manifest};
use crate::repository::Repository;
use crate::subset::Subset;

/// How many objects are asked for at once.
const AT_ONCE: usize = 16;

/// How many chunks of a subset are fetched and decompressed at once.
const CHUNKS_AT_ONCE: usize = 3;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The manifest is undamaged, and every object is there with its size.
    Quick,
    /// As quick, and every byte of these objects is read, checked and decompressed: of a large backup
    /// some each day, and all within a month.
    Part(Subset),
    /// Every byte is read, checked and decompressed.
    Full,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it may say that the backup is damaged"]
pub struct Verification {
    /// What is wrong, each with the name of the object.
    pub problems: Vec<String>,
    /// How many objects were looked at.
    pub objects: usize,
    /// How many of them were read.
    pub read: usize,
    /// How many plain bytes were read; 0 for a quick one.
    pub bytes: u64,
    /// How many rows were counted; a drill does.
    pub rows: u64,
    /// Whether an attestation of it was kept: of a full one, or of a part that found damage, where the
    /// store may be written.
    pub attested: bool,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How many plain bytes are read.
pub(crate) fn extent(manifest: &Manifest, depth: Depth) -> u64 {
    match depth {
        Depth::Quick => 0,
        Depth::Full => manifest.plain_size(),
        Depth::Part(subset) => {
            let mut seen = HashSet::new();
            let chunks = manifest.units().flat_map(|unit| &unit.chunks);
            let chosen = chunks.filter(|chunk| seen.insert(&chunk.key) && subset.has(&chunk.key));
            chosen.fold(0, |sum, chunk| sum.saturating_add(chunk.plain_size))
        }
    }
}

pub(crate) async fn verify(
    repository: &Repository,
    manifest: &Manifest,
    depth: Depth,
    cancel: &CancellationToken,
) -> Result<Verification, Error> {
    let mut found = Verification::default();
    let mut seen = HashSet::new();
    let chunks = manifest.units().flat_map(|unit| &unit.chunks);
    let chunks: Vec<_> = chunks.filter(|chunk| seen.insert(&chunk.key)).collect();
    // By number: a closure over references would keep the future from being sent to other threads.
    let all = &chunks;
    let sizes = futures::stream::iter(0..chunks.len())
        .map(|at| async move { (all[at], repository.size(&all[at].key).await) })
        .buffered(AT_ONCE);
    let mut sizes = std::pin::pin!(sizes);
    while let Some((chunk, size)) = sizes.next().await {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        found.objects += 1;
        match size {
            Ok(size) if size == chunk.stored_size => {}
            Ok(size) => found.problems.push(format!(
                "object `{}` has {size} bytes instead of {}",
                chunk.key, chunk.stored_size
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                found.problems.push(format!("object `{}` is missing", chunk.key));
            }
            Err(error) => return Err(error),
        }
    }
    if !found.is_whole() {
        return Ok(found);
    }
    match depth {
        Depth::Quick => {}
        Depth::Part(subset) => {
            let all = chunks.iter().copied();
            let chosen: Vec<_> = all.filter(|chunk| subset.has(&chunk.key)).collect();
            part(repository, &chosen, cancel, &mut found).await?;
        }
        Depth::Full => full(repository, manifest, cancel, &mut found).await?,
    }
    Ok(found)
}

/// Reads these objects. The digests of whole streams need all of their objects.
async fn part(
    repository: &Repository,
    chunks: &[&ChunkRecord],
    cancel: &CancellationToken,
    found: &mut Verification,
) -> Result<(), Error> {
    let fetched = futures::stream::iter(0..chunks.len())
        .map(|at| chunk::fetch(repository, chunks[at], cancel))
        .buffered(CHUNKS_AT_ONCE);
    let mut fetched = std::pin::pin!(fetched);
    while let Some(plain) = fetched.next().await {
        found.read += 1;
        match plain {
            Ok(plain) => found.bytes += plain.len() as u64,
            Err(error) if is_damage(&error) => found.problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

async fn full(
    repository: &Repository,
    manifest: &Manifest,
    cancel: &CancellationToken,
    found: &mut Verification,
) -> Result<(), Error> {
    found.read = found.objects;
    for unit in manifest.units() {
        let mut bytes = chunk::read(repository.clone(), unit.clone(), cancel.clone());
        let before = found.bytes;
        while let Some(piece) = bytes.next().await {
            match piece {
                Ok(piece) => found.bytes += piece.len() as u64,
                Err(error) if is_damage(&error) => found.problems.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        if found.is_whole() && found.bytes - before != unit.plain_size {
            found.problems.push(format!("unit `{}` has the wrong size", unit.name));
        }
    }
    Ok(())
}
