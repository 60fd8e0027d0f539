//! Tombstones: a backup that has one is not listed, whether its manifest is there or not.
//!
//! So one atomic write takes a backup out of the vault, before anything of it is deleted, and a
//! manifest that arrives late (its call was given up, its machine slept through a night) changes
//! nothing any more.
//!
//! What takes one back leaves an empty object in its place, which hides nothing: a tombstone is
//! created, never overwritten, so one whose call was given up cannot arrive any more.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use object_store::ObjectMeta;
use ops_core::OperationId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;
use crate::repository::{Repository, moment};
use crate::undeleted::Undeleted;

const FOLDER: &str = "tombstones";
const FORMAT: u32 = 1;
const MAX: u64 = 4096;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tombstone {
    format: u32,
    backup: BackupId,
    /// Who wrote it, and so who may take it back.
    operation: OperationId,
}

fn key(id: BackupId) -> String {
    format!("{FOLDER}/{id}.json")
}

fn bytes(id: BackupId, operation: OperationId) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&Tombstone { format: FORMAT, backup: id, operation }).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "a tombstone cannot be written").caused_by(e)
    })
}

impl Repository {
    /// Takes a backup out of the vault. One that another operation took out stays its.
    pub async fn bury(&self, id: BackupId, operation: OperationId) -> Result<(), Error> {
        let bytes = bytes(id, operation)?;
        match self.create(&key(id), bytes.clone().into()).await {
            Err(error) if error.kind() == ErrorKind::Exists => {
                // One that was taken back makes room.
                if self.get(&key(id), MAX).await?.is_empty() {
                    self.put(&key(id), bytes.into()).await?;
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Takes this operation's tombstone back.
    pub async fn unbury(&self, id: BackupId, operation: OperationId) -> Result<(), Error> {
        match self.get(&key(id), MAX).await {
            Ok(found) if found == bytes(id, operation)? => {}
            Ok(_) => return Ok(()),
            // It may still be on its way.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.put(&key(id), Bytes::new()).await
    }

    /// Removes a tombstone whoever wrote it, once there is nothing left that it hides.
    pub async fn forget_tombstone(&self, id: BackupId) -> Result<Undeleted, Error> {
        self.let_go(&key(id)).await
    }

    pub async fn is_buried(&self, id: BackupId) -> Result<bool, Error> {
        match self.size(&key(id)).await {
            Ok(size) => Ok(size > 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every tombstone, with its age by the store's clock.
    pub async fn buried(&self) -> Result<BTreeMap<BackupId, Timestamp>, Error> {
        self.tombstones(|size| size > 0).await
    }

    /// What is left of those that were taken back.
    pub async fn unburied(&self) -> Result<BTreeMap<BackupId, Timestamp>, Error> {
        self.tombstones(|size| size == 0).await
    }

    async fn tombstones(
        &self,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<BTreeMap<BackupId, Timestamp>, Error> {
        let add = |known: &mut BTreeMap<_, _>, object: &ObjectMeta| {
            if !wanted(object.size) {
                return;
            }
            let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            if let Some(Ok(id)) = name.map(str::parse) {
                known.insert(id, moment(object));
            }
        };
        self.fold(FOLDER, BTreeMap::new, add).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_it_was() {
        let golden = include_bytes!("../tests/tombstone-1.json");
        let Tombstone { format, backup, operation } = serde_json::from_slice(golden).unwrap();
        assert_eq!(format, FORMAT);
        assert_eq!(bytes(backup, operation).unwrap(), golden);
    }
}
