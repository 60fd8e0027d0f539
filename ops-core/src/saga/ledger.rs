//! The journal and the state that it describes, moved together.

use serde_json::Value;

use crate::error::StepError;
use crate::resource::ResourceId;

#[derive(Debug)]
pub(crate) struct Ledger {}

impl Ledger {
    pub(crate) async fn note(
        &self,
        _: usize,
        _: ResourceId,
        _: String,
        _: Value,
    ) -> Result<(), StepError> {
        Ok(())
    }

    pub(crate) fn noted(&self, _: &ResourceId, _: &str) -> Option<Value> {
        None
    }
}
