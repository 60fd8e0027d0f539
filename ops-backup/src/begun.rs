//! Which backups run: each says so before it looks for chunks to reuse, and takes it back when it
//! has ended. So a prune knows whose choice it has not seen yet, and needs no lease.

use std::collections::BTreeMap;

use jiff::Timestamp;
use object_store::ObjectMeta;
use ops_core::OperationId;
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName};
use crate::repository::{Repository, moment};
use crate::undeleted::Undeleted;

const FOLDER: &str = "begun";

#[derive(Serialize)]
struct Begun<'a> {
    format: u32,
    backup: BackupId,
    set: &'a SetName,
    operation: OperationId,
}

fn key(id: BackupId) -> String {
    format!("{FOLDER}/{id}.json")
}

impl Repository {
    /// Says that a backup runs. Saying it twice changes nothing, not even the time.
    pub async fn begin(
        &self,
        id: BackupId,
        set: &SetName,
        operation: OperationId,
    ) -> Result<(), Error> {
        let begun = Begun { format: 1, backup: id, set, operation };
        let bytes = serde_json::to_vec(&begun)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "no mark").caused_by(e))?;
        match self.create(&key(id), bytes.into()).await {
            Err(error) if error.kind() == ErrorKind::Exists => Ok(()),
            other => other,
        }
    }

    /// Takes it back. A mark that the store does not let go says nothing once its backup is listed, or
    /// was taken out.
    pub async fn end(&self, id: BackupId) -> Result<Undeleted, Error> {
        self.let_go(&key(id)).await
    }

    /// Who has begun and not ended, and when, by the store's clock.
    pub async fn begun(&self) -> Result<BTreeMap<BackupId, Timestamp>, Error> {
        let add = |known: &mut BTreeMap<_, _>, object: &ObjectMeta| {
            let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            if let Some(Ok(id)) = name.map(str::parse) {
                known.insert(id, moment(object));
            }
        };
        self.fold(FOLDER, BTreeMap::new, add).await
    }
}
