//! Who can open an encrypted repository changes: the steps, and the vault's verbs for them.

use ops_core::{Effect, OperationId, Plan, Refusal, Report, Secret, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::digest::sha256;
use crate::error::{Error, ErrorKind};
use crate::key::{self, KeyName, Recipient, object, wrap};
use crate::step::VaultStep;
use crate::vault::Vault;

/// Adds or removes who can open the repository. Its chunks stay as they are: only the repository's
/// identity is wrapped anew, or a wrapping goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "key")]
#[non_exhaustive]
pub enum KeyStep {
    /// Wraps the identity for an age recipient.
    AddRecipient {
        /// The name of the new key.
        name: KeyName,
        /// The public key.
        recipient: String,
    },
    /// Wraps the identity for a passphrase, which the vault was given; no journal ever holds it.
    AddPassphrase {
        /// The name of the new key.
        name: KeyName,
    },
    /// Removes the key of this name. Who has used it once may have kept the identity.
    Remove {
        /// The name of the key.
        name: KeyName,
    },
}

impl KeyStep {
    fn name_of_key(&self) -> &KeyName {
        match self {
            Self::AddRecipient { name, .. }
            | Self::AddPassphrase { name }
            | Self::Remove { name } => name,
        }
    }

    /// Where a key lies that this operation adds: the same in every process.
    fn place(&self, operation: OperationId) -> Result<String, Error> {
        let operation = operation.to_string();
        let moment = Ulid::from_string(&operation)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "no operation id").caused_by(e))?
            .timestamp_ms();
        let digest = sha256(format!("{operation}/{}", self.name_of_key()).as_bytes());
        let random = u128::from_str_radix(&digest[..20], 16).unwrap_or_default();
        Ok(object(self.name_of_key(), Ulid::from_parts(moment, random)))
    }

    fn note(&self) -> String {
        format!("key {}", self.name_of_key())
    }

    fn last_one(&self) -> Error {
        let message =
            format!("without key `{}` nobody could open the repository", self.name_of_key());
        Error::new(ErrorKind::InvalidInput, message)
    }

    fn recipient(&self, vault: &Vault) -> Result<Recipient, Error> {
        match self {
            Self::AddRecipient { recipient, .. } => Recipient::public(recipient),
            _ => vault.passphrases.get(self.name_of_key()).cloned().ok_or_else(|| {
                let name = self.name_of_key();
                Error::new(
                    ErrorKind::InvalidInput,
                    format!("the passphrase of key `{name}` is not here"),
                )
                .remedy("hand it to the vault with `with_passphrase`")
            }),
        }
    }

    /// Where the keys of this name lie.
    async fn there(&self, vault: &Vault) -> Result<(Vec<String>, usize), Error> {
        let wrapped = vault.repository.wrapped().await?;
        let all = wrapped.len();
        let name = self.name_of_key();
        let ours = wrapped.into_iter().filter(|(_, found)| found == name);
        Ok((ours.map(|(key, _)| key).collect(), all))
    }
}

impl Step for KeyStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        match self {
            Self::AddRecipient { .. } | Self::AddPassphrase { .. } => "add_key",
            Self::Remove { .. } => "remove_key",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::AddRecipient { name, recipient } => {
                Effect::changes(format!("let `{recipient}` open the repository, as key `{name}`"))
            }
            Self::AddPassphrase { name } => {
                Effect::changes(format!("let a passphrase open the repository, as key `{name}`"))
            }
            Self::Remove { name } => Effect::destroys(format!(
                "remove key `{name}` (who has used it may have kept the repository's identity)"
            )),
        }
    }

    async fn check(&self, vault: &Vault, _: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let refuse = |reason: String, remedy: &str| Ok(vec![Refusal::new(reason, remedy)]);
        if vault.repository.identity().is_none() {
            return refuse(
                "the repository is not encrypted".to_owned(),
                "begin a new one with a recipient or a passphrase",
            );
        }
        let (ours, all) = self.there(vault).await?;
        let name = self.name_of_key();
        if let Self::Remove { .. } = self {
            return match (ours.len(), all) {
                (0, _) => refuse(format!("there is no key `{name}`"), "list the keys"),
                (n, all) if n == all => {
                    let error = self.last_one();
                    refuse(error.to_string(), "add another key first")
                }
                _ => Ok(Vec::new()),
            };
        }
        if let Err(error) = self.recipient(vault) {
            return refuse(error.to_string(), "give the vault what the step needs");
        }
        if ours.is_empty() {
            return Ok(Vec::new());
        }
        refuse(format!("there is a key `{name}` already"), "choose another name, or remove it")
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        // On a thread that the engine waits for: no call may arrive after the way back.
        let (step, vault, own) = (self.clone(), vault.clone(), cx.clone());
        let runtime = tokio::runtime::Handle::current();
        cx.blocking(move |_| runtime.block_on(step.turn(&vault, &own))).await
    }

    async fn undo(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let (step, vault, own) = (self.clone(), vault.clone(), cx.clone());
        let runtime = tokio::runtime::Handle::current();
        cx.blocking(move |_| runtime.block_on(step.turn_back(&vault, &own))).await
    }
}

impl KeyStep {
    async fn turn(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let repository = &vault.repository;
        let Some(identity) = repository.identity() else {
            return Err(Error::new(ErrorKind::WrongKey, "the repository is not encrypted").into());
        };
        if let Self::Remove { .. } = self {
            // What goes is noted, so that the way back has it; it is wrapped, and no secret.
            let kept = async {
                let mut kept = Vec::new();
                for key in self.there(vault).await?.0 {
                    kept.push((key.clone(), hex::encode(repository.get(&key, key::MAX).await?)));
                }
                Ok(kept)
            };
            let kept: Vec<(String, String)> = cx.observe(&self.note(), kept).await?;
            let (ours, all) = self.there(vault).await?;
            if ours.len() == all {
                return Err(self.last_one().into());
            }
            for (key, _) in kept {
                repository.delete(&key).await?;
                ops_core::fault::point("removed a key");
            }
            // Another machine may have removed the others meanwhile. Then both go back.
            return match self.there(vault).await? {
                (_, 0) => Err(self.last_one().into()),
                _ => Ok(()),
            };
        }
        let place = self.place(cx.operation())?;
        if repository.exists(&place).await? {
            return Ok(());
        }
        let wrapped = wrap(self.recipient(vault)?, &identity.to_text()).await?;
        ops_core::fault::point("before the key");
        Ok(repository.create(&place, wrapped.into()).await?)
    }

    async fn turn_back(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let repository = &vault.repository;
        if let Self::Remove { .. } = self {
            let kept: Vec<(String, String)> = cx.noted(&self.note())?.unwrap_or_default();
            for (key, wrapped) in kept {
                let wrapped = hex::decode(wrapped).map_err(|e| {
                    Error::new(ErrorKind::Corrupt, "the note of a key is damaged").caused_by(e)
                })?;
                repository.create(&key, wrapped.into()).await?;
            }
            return Ok(());
        }
        Ok(repository.delete(&self.place(cx.operation())?).await?)
    }
}

impl Vault {
    /// The public key of the repository's identity; nothing if it is not encrypted.
    pub fn public_key(&self) -> Option<String> {
        self.repository.identity().map(|identity| identity.recipient())
    }

    /// The names of the keys that open the repository.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub async fn keys(&self) -> Result<Vec<KeyName>, Error> {
        let mut names: Vec<_> = self.repository.wrapped().await?.into_values().collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Knows the passphrase of a key that [`KeyStep::AddPassphrase`] adds.
    pub fn with_passphrase(mut self, name: KeyName, passphrase: Secret) -> Self {
        self.passphrases.insert(name, Recipient::passphrase(passphrase));
        self
    }

    /// A change of who can open the repository, as a plan.
    ///
    /// # Errors
    /// If the step does not survive its serialisation, which none of these does not.
    pub fn plan_key(&self, step: KeyStep) -> Result<Plan, Error> {
        let name = step.name_of_key().clone();
        Ok(Plan::new("key").fact("key", name).change(self, &VaultStep::Key(step))?)
    }

    /// Lets an age recipient open the repository; see [`plan_key`](Self::plan_key).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is none; those of the plan.
    pub async fn add_recipient(
        &self,
        name: KeyName,
        recipient: &str,
        cx: &ops_core::Context,
    ) -> Result<Report, Error> {
        Recipient::public(recipient)?;
        let step = KeyStep::AddRecipient { name, recipient: recipient.to_owned() };
        Ok(cx.execute(self.plan_key(step)?, &self).await?)
    }

    /// Lets a passphrase open the repository; see [`plan_key`](Self::plan_key).
    ///
    /// # Errors
    /// Those of the plan.
    pub async fn add_passphrase(
        &self,
        name: KeyName,
        passphrase: Secret,
        cx: &ops_core::Context,
    ) -> Result<Report, Error> {
        let vault = self.clone().with_passphrase(name.clone(), passphrase);
        let plan = vault.plan_key(KeyStep::AddPassphrase { name })?;
        Ok(cx.execute(plan, &&vault).await?)
    }

    /// Removes a key; see [`plan_key`](Self::plan_key). It needs an approval everywhere.
    ///
    /// # Errors
    /// Those of the plan.
    pub async fn remove_key(&self, name: KeyName, cx: &ops_core::Context) -> Result<Report, Error> {
        Ok(cx.execute(self.plan_key(KeyStep::Remove { name })?, &self).await?)
    }
}
