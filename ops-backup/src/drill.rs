//! The drill: a backup is restored into scratch, compared there, and the result is attested.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ops_core::{Effect, OperationId, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::attest::{Attestation, Proof};
use crate::chunk;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, SourceRecord};
use crate::source::Unit;
use crate::vault::Vault;
use crate::verify::{self, Depth, Verification};

/// Restores a backup into scratch, compares it with its manifest, and attests what was found.
/// The attestation stays when the operation goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// Tells it from the other steps of a vault.
    pub(crate) drill: BackupId,
    pub(crate) set: SetName,
}

impl DrillStep {
    fn scratch(cx: &StepContext) -> PathBuf {
        cx.context().state_dir().join("scratch").join(format!("drill-{}", cx.operation()))
    }

    async fn make(
        &self,
        vault: &Vault,
        (scratch, operation, at): (&Path, OperationId, Timestamp),
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        ops_core::fs::remove_dir_durable(scratch)?;
        let manifest = vault.show(self.set.as_ref(), self.drill).await?;
        let mut found = verify::verify(&vault.repository, &manifest, Depth::Full, cancel).await?;
        if found.is_whole() {
            // What is restored is as secret as what was backed up.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch);
            made.map_err(|e| Error::io("create", scratch, e))?;
            ops_core::fault::point("made scratch");
            for (at, record) in manifest.sources.iter().enumerate() {
                let place = scratch.join(at.to_string());
                rehearse(vault, &manifest, record, &place, cancel, &mut found).await?;
            }
        }
        ops_core::fs::remove_dir_durable(scratch)?;
        let attestation = Attestation {
            operation: Some(operation),
            ..Attestation::new(Proof::Drill, &manifest, at, &found)?
        };
        ops_core::fault::point("before the attestation");
        vault.repository.attest(&attestation).await
    }
}

/// Restores one source, and notes what is not as the manifest says. What says nothing about the
/// backup (a full disk, a store that does not answer) is an error.
async fn rehearse(
    vault: &Vault,
    manifest: &Manifest,
    record: &SourceRecord,
    place: &Path,
    cancel: &CancellationToken,
    found: &mut Verification,
) -> Result<(), Error> {
    let source = vault.source(&record.source)?;
    let read = |unit| chunk::read(vault.repository.clone(), unit, cancel.clone());
    let mut problems = Vec::new();
    for unit in &record.units {
        let name = Unit { name: unit.name.clone() };
        let restored = source.restore(&name, read(unit.clone()), place).await;
        ops_core::fault::point("restored into scratch");
        match restored {
            Ok(()) => problems.extend(source.compare(&name, read(unit.clone()), place).await?),
            Err(error) if says_damaged(&error) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
    }
    if problems.is_empty() {
        match source.smoke(place).await {
            Ok(()) => {}
            Err(error) if says_damaged(&error) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if problems.is_empty() {
        // What an older program wrote has no rows to compare with.
        for unit in record.units.iter().filter(|unit| !unit.rows.is_empty()) {
            let rows = source.rows(place).await?;
            found.rows += rows.values().sum::<u64>();
            if rows != unit.rows {
                problems.push(format!("rows are {rows:?}, the manifest says {:?}", unit.rows));
            }
        }
    }
    let of = |problem| format!("`{}` of backup {}: {problem}", record.source, manifest.id);
    found.problems.extend(problems.into_iter().map(of));
    Ok(())
}

fn says_damaged(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Source | ErrorKind::NotFound)
}

impl Step for DrillStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        "drill"
    }

    fn effect(&self) -> Effect {
        let Self { drill, set } = self;
        Effect::retained(format!(
            "restore backup {drill} of set `{set}` into scratch, compare it, attest the result"
        ))
    }

    async fn check(&self, vault: &Vault, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let manifest = vault.show(self.set.as_ref(), self.drill).await?;
        let mut reasons = Vec::new();
        for record in &manifest.sources {
            if let Err(error) = vault.source(&record.source) {
                let remedy = "register the source in the vault of this program";
                reasons.push(Refusal::new(error.to_string(), remedy));
            } else if record.kind.starts_with("postgres") {
                reasons.push(Refusal::new(
                    format!("`{}` cannot be restored into a folder", record.source),
                    "restore it into a database of a new name, which compares every row",
                ));
            }
        }
        let (need, state) = (manifest.plain_size(), cx.context().state_dir());
        let free = ops_core::fs::space(state)?.available;
        if free < need {
            reasons.push(Refusal::new(
                format!("the drill needs {need} bytes in `{}`, {free} are free", state.display()),
                "make room there, or use a state directory on a larger file system",
            ));
        }
        Ok(reasons)
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        // Once, so that a second run writes the same attestation.
        let key = format!("drill of {}", self.drill);
        let at = cx.observe(&key, async { Ok(cx.context().clock().now()) }).await?;
        let (step, vault, scratch) = (self.clone(), vault.clone(), Self::scratch(cx));
        let operation = cx.operation();
        let runtime = tokio::runtime::Handle::current();
        cx.blocking(move |cancel| {
            runtime.block_on(step.make(&vault, (&scratch, operation, at), cancel))
        })
        .await
    }

    async fn undo(&self, _: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let scratch = Self::scratch(cx);
        cx.blocking(move |_| ops_core::fs::remove_dir_durable(&scratch)).await
    }
}
