//! The proof that there is a way back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::database::Maintenance;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName};
use crate::vault::Vault;

/// A backup of a database that is not old, and in which nothing was found wrong. There is no way
/// to one but [`Maintenance::fresh_backup`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hand it to what needs it"]
pub struct FreshBackup(pub(super) Proof);

/// What is looked at again before anything is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub(super) set: SetName,
    pub(super) backup: BackupId,
    pub(super) fingerprint: String,
    pub(super) max_age: Duration,
}

impl FreshBackup {
    /// The backup.
    pub fn backup(&self) -> BackupId {
        self.0.backup
    }
}

impl Maintenance {
    /// The newest backup of this database in a set, if it was begun no longer ago than `max_age`,
    /// and if its last full verification or drill found nothing wrong.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, with what is missing.
    pub async fn fresh_backup(&self, set: &str, max_age: Duration) -> Result<FreshBackup, Error> {
        let (vault, fingerprint) = (&self.vault, self.fingerprint());
        for id in vault.list(set).await?.into_iter().rev() {
            let manifest = vault.show(set, id).await?;
            if manifest.sources.iter().any(|record| record.fingerprint == fingerprint) {
                let set = manifest.set;
                let proof = Proof { set, backup: id, fingerprint, max_age };
                proof.holds(vault, vault.clock.now()).await?;
                return Ok(FreshBackup(proof));
            }
        }
        let message = format!("set `{set}` has no backup of database `{fingerprint}`");
        Err(Error::new(ErrorKind::NotFound, message).remedy("make one, and verify it"))
    }
}

impl Proof {
    /// # Errors
    /// If the backup is gone, is too old by now, is not verified, or was found damaged.
    pub(super) async fn holds(&self, vault: &Vault, now: Timestamp) -> Result<(), Error> {
        let Self { set, backup, fingerprint, max_age } = self;
        let lacking = |why: &str, remedy: &str| {
            let message = format!("backup {backup} of set `{set}` {why}");
            Err(Error::new(ErrorKind::NotFound, message).remedy(remedy))
        };
        let manifest = vault.show(set.as_ref(), *backup).await?;
        if manifest.sources.iter().all(|record| record.fingerprint != *fingerprint) {
            return lacking("is of another database", "make one of this database, and verify it");
        }
        let age = now.duration_since(manifest.created_at);
        if age > SignedDuration::try_from(*max_age).unwrap_or(SignedDuration::MAX) {
            return lacking(&format!("is {age:#} old"), "make another, and verify it");
        }
        match vault.attestation(set.as_ref(), *backup).await? {
            Some(found) if found.whole => Ok(()),
            Some(_) => lacking("was found damaged", "make another, and verify it"),
            None => lacking("was never verified", "verify it to its last byte"),
        }
    }
}
