//! Stores that let nothing go: buckets whose objects are locked for a time, and credentials that may
//! write and not delete, so that who steals them cannot destroy the backups.
//!
//! What has to go to be hidden is hidden by a tombstone, which is created. So an object that stays is
//! garbage and no danger: it is told, and the next prune tries again.

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::manifest::BackupId;
use crate::repository::{Repository, chunk_owner};

/// How many objects the store did not let go, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undeleted {
    objects: u64,
    such_as: Option<String>,
}

impl Undeleted {
    pub fn is_none(&self) -> bool {
        self.objects == 0
    }

    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.such_as = self.such_as.take().or(other.such_as);
    }

    /// Tells it to whoever reads logs and metrics.
    pub fn tell(&self) {
        let Self { objects, such_as: Some(first) } = self else { return };
        metrics::counter!("ops_backup_undeleted_objects_total").increment(*objects);
        tracing::warn!(
            target: "ops",
            "the store did not let {objects} objects go, such as `{first}`: they are locked, or its \
             credentials may not delete. Nothing needs them; the next prune tries again"
        );
    }
}

impl Repository {
    /// Deletes an object that nothing needs, if the store lets it go.
    pub async fn let_go(&self, key: &str) -> Result<Undeleted, Error> {
        match self.delete(key).await {
            Ok(()) => Ok(Undeleted::default()),
            Err(error) if error.is_denied() => {
                tracing::debug!(target: "ops", "{}", ops_core::error::chain(&error).join(": "));
                Ok(Undeleted { objects: 1, such_as: Some(key.to_owned()) })
            }
            Err(error) => Err(error),
        }
    }

    /// Lets these objects go, eight at a time.
    pub async fn let_all_go(&self, keys: Vec<String>) -> Result<Undeleted, Error> {
        let mut deleting = futures::stream::iter(keys)
            .map(|key| async move { self.let_go(&key).await })
            .buffer_unordered(8);
        let mut undeleted = Undeleted::default();
        while let Some(deleted) = deleting.next().await {
            undeleted.add(deleted?);
            ops_core::fault::point("deleted an object");
        }
        Ok(undeleted)
    }

    /// Lets the chunks go that a backup uploaded.
    pub async fn let_chunks_go(&self, id: BackupId) -> Result<Undeleted, Error> {
        let add = |keys: &mut Vec<String>, object: &object_store::ObjectMeta| {
            if chunk_owner(object.location.as_ref()) == Some(id) {
                keys.push(object.location.to_string());
            }
        };
        self.let_all_go(self.fold("chunks", Vec::new, add).await?).await
    }
}
