//! Everything that an operation can do to a vault.

use ops_core::{Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::backup::BackupStep;
use crate::drill::DrillStep;
use crate::key_step::KeyStep;
use crate::prune::PruneStep;
use crate::vault::Vault;

/// Everything that an operation can do to a [`Vault`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum VaultStep {
    /// Takes backups out, and deletes what no backup names.
    Prune(PruneStep),
    /// Proves that a backup can be restored.
    Drill(DrillStep),
    /// Adds or removes who can open the repository.
    Key(KeyStep),
    /// Makes a backup.
    Backup(BackupStep),
}

impl Step for VaultStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        match self {
            Self::Prune(step) => step.name(),
            Self::Drill(step) => step.name(),
            Self::Key(step) => step.name(),
            Self::Backup(step) => step.name(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Prune(step) => step.effect(),
            Self::Drill(step) => step.effect(),
            Self::Key(step) => step.effect(),
            Self::Backup(step) => step.effect(),
        }
    }

    async fn check(&self, vault: &Vault, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::Prune(step) => step.check(vault, cx).await,
            Self::Drill(step) => step.check(vault, cx).await,
            Self::Key(step) => step.check(vault, cx).await,
            Self::Backup(step) => step.check(vault, cx).await,
        }
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Prune(step) => step.run(vault, cx).await,
            Self::Drill(step) => step.run(vault, cx).await,
            Self::Key(step) => step.run(vault, cx).await,
            Self::Backup(step) => step.run(vault, cx).await,
        }
    }

    async fn undo(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Prune(step) => step.undo(vault, cx).await,
            Self::Drill(step) => step.undo(vault, cx).await,
            Self::Key(step) => step.undo(vault, cx).await,
            Self::Backup(step) => step.undo(vault, cx).await,
        }
    }
}
