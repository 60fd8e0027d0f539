//! One source's part of a backup, as a restore reads it.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::chunk;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName, SourceRecord};
use crate::repository::Repository;
use crate::source::{ByteStream, SourceSpec};
use crate::verify::{self, Depth};

/// The record of a source, after a verification of all that belongs to it.
pub(crate) async fn verified(
    repository: &Repository,
    (set, backup): (&SetName, BackupId),
    component: &SourceSpec,
    depth: Depth,
    cancel: &CancellationToken,
) -> Result<SourceRecord, Error> {
    let mut manifest = repository.manifest(set, backup).await?;
    manifest.sources.retain(|record| record.source == *component);
    let found = verify::verify(repository, &manifest, depth, cancel).await?;
    if let Some(problem) = found.problems.first() {
        let message = format!("backup {backup} is damaged: {problem}");
        return Err(
            Error::new(ErrorKind::Corrupt, message).remedy("restore another backup of the set")
        );
    }
    let record = manifest.sources.pop();
    record.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("backup {backup} has no source `{component}`"))
    })
}

/// The bytes of one unit.
pub(crate) fn read(
    repository: &Repository,
    record: &SourceRecord,
    name: &str,
    cancel: &CancellationToken,
) -> Result<ByteStream, Error> {
    let unit = record.units.iter().find(|unit| unit.name == name).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("`{}` has no unit `{name}`", record.source))
    })?;
    Ok(chunk::read(repository.clone(), unit.clone(), cancel.clone()))
}

/// All bytes of a unit that has no more than `limit`.
pub(crate) async fn read_all(
    repository: &Repository,
    record: &SourceRecord,
    name: &str,
    limit: u64,
    cancel: &CancellationToken,
) -> Result<Bytes, Error> {
    if record.units.iter().any(|unit| unit.name == name && unit.plain_size > limit) {
        return Err(Error::new(ErrorKind::Corrupt, format!("unit `{name}` is too large")));
    }
    let mut pieces = read(repository, record, name, cancel)?;
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}
