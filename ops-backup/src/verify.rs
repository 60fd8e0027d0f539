//! Whether a backup is whole.

use std::collections::HashSet;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::chunk;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::repository::Repository;

/// How many objects are asked for at once.
const AT_ONCE: usize = 16;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The manifest is undamaged, and every object is there with its size.
    Quick,
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
    /// How many plain bytes were read; 0 for a quick one.
    pub bytes: u64,
    /// How many rows were counted; a drill does.
    pub rows: u64,
    /// Whether an attestation of it was kept: of a full one, where the store may be written.
    pub attested: bool,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
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
    let sizes = futures::stream::iter(chunks.filter(|chunk| seen.insert(&chunk.key)))
        .map(|chunk| async move { (chunk, repository.size(&chunk.key).await) })
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
    if depth == Depth::Quick || !found.is_whole() {
        return Ok(found);
    }
    for unit in manifest.units() {
        let mut bytes = chunk::read(repository.clone(), unit.clone(), cancel.clone());
        let before = found.bytes;
        while let Some(piece) = bytes.next().await {
            match piece {
                Ok(piece) => found.bytes += piece.len() as u64,
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    found.problems.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if found.is_whole() && found.bytes - before != unit.plain_size {
            found.problems.push(format!("unit `{}` has the wrong size", unit.name));
        }
    }
    Ok(found)
}
