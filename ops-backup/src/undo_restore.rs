//! The way back from a restore that was committed: what it kept takes its place again.

use ops_core::{Context, OperationId, Plan, Report};

use crate::error::Error;
use crate::restore::Place;
#[cfg(feature = "postgres")]
use crate::source::DatabasePlace;
#[cfg(feature = "qdrant")]
use crate::source::QdrantPlace;
use crate::vault::Vault;

impl Vault {
    /// The way back from an earlier restore into a place, as a plan: what it kept takes its place
    /// again, and what is there now is kept in its stead, so that this too can be undone. Refused by
    /// name when what it kept is gone. Programs that write to the place must be stopped.
    ///
    /// # Errors
    /// None but those of the plan itself.
    pub fn plan_undo_restore(&self, place: &Place, restore: OperationId) -> Result<Plan, Error> {
        place.plan_undo(restore)
    }

    /// Undoes an earlier restore; see [`plan_undo_restore`](Self::plan_undo_restore). It needs an
    /// approval everywhere.
    ///
    /// # Errors
    /// [`ErrorKind::Operation`](crate::ErrorKind::Operation) with the report if the operation was
    /// refused or went back.
    pub async fn undo_restore(
        &self,
        place: &Place,
        restore: OperationId,
        cx: &Context,
    ) -> Result<Report, Error> {
        Ok(cx.execute(self.plan_undo_restore(place, restore)?, &place).await?)
    }

    /// The way back from an earlier restore into a database, as a plan: the database that it kept
    /// has its name back, and the one that is there now is kept in its stead. Refused by name when
    /// what it kept is gone.
    ///
    /// # Errors
    /// None but those of the plan itself.
    #[cfg(feature = "postgres")]
    pub fn plan_undo_database_restore(
        &self,
        place: &DatabasePlace,
        restore: OperationId,
    ) -> Result<Plan, Error> {
        place.plan_undo(restore)
    }

    /// The way back from an earlier restore behind an alias, as a plan: the alias stands for `kept`
    /// again, which the restore's plan and report name; the restored collection stays. Refused by
    /// name when what it kept is gone, or when the alias was moved since.
    ///
    /// # Errors
    /// None but those of the plan itself.
    #[cfg(feature = "qdrant")]
    pub fn plan_undo_collection_restore(
        &self,
        place: &QdrantPlace,
        restore: OperationId,
        kept: &str,
    ) -> Result<Plan, Error> {
        place.plan_undo(restore, kept)
    }
}
