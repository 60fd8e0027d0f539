//! The steps of a deployment by a provider.

use ops_core::probe::AllOf;
use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, History, Verb};

/// One step on a [`Provider`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProviderStep {
    /// The version in service is still the one that the plan was made for.
    ExpectCurrent {
        /// The version in service; `None` if none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
    },
    /// The tool says what it would do.
    Rehearse {
        /// The version that comes.
        version: Version,
        /// How it comes.
        verb: Verb,
    },
    /// The tool brings the version into service.
    Bring {
        /// The version that comes.
        version: Version,
        /// How it comes.
        verb: Verb,
        /// The version that goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Version>,
        /// Whether the public heard that version, when this was planned.
        heard: bool,
    },
    /// The public hears the new version, several times in a row.
    Confirm {
        /// The version that comes.
        version: Version,
        /// The probes that must be healthy, too, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guards: Vec<String>,
    },
    /// The history names the new version.
    RecordHistory {
        /// The version that comes.
        version: Version,
        /// How it comes.
        verb: Verb,
        /// The version that goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Version>,
    },
}

impl Step for ProviderStep {
    const FAMILY: &'static str = "provider";
    type Env = Provider;

    fn name(&self) -> &'static str {
        match self {
            Self::ExpectCurrent { .. } => "expect_current",
            Self::Rehearse { .. } => "rehearse",
            Self::Bring { .. } => "bring",
            Self::Confirm { .. } => "confirm",
            Self::RecordHistory { .. } => "record_history",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::ExpectCurrent { current: None } => {
                Effect::reads("see that no version is in service")
            }
            Self::ExpectCurrent { current: Some(version) } => {
                Effect::reads(format!("see that {version} is still in service"))
            }
            Self::Rehearse { version, .. } => {
                Effect::reads(format!("let the provider's tool rehearse {version}"))
            }
            Self::Bring { version, verb: Verb::Rollback, .. } => {
                Effect::changes(format!("let the provider's tool go back to {version}"))
            }
            Self::Bring { version, .. } => {
                Effect::changes(format!("let the provider's tool deploy {version}"))
            }
            Self::Confirm { version, guards } if guards.is_empty() => {
                Effect::reads(format!("see that the public address answers as {version}"))
            }
            Self::Confirm { version, guards } => Effect::reads(format!(
                "see that the public address answers as {version}, and that {} is well",
                guards.join(", ")
            )),
            Self::RecordHistory { version, verb, .. } => {
                Effect::changes(format!("record the {} of {version} in the history", verb.as_str()))
            }
        }
    }

    async fn check(&self, env: &Provider, _: &StepContext) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::ExpectCurrent { current } => Ok(env.expect(current.as_ref()).await?),
            Self::Confirm { guards, .. } => {
                Ok(crate::gate::guards(&env.0.guards, guards).err().into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, env: &Provider, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::ExpectCurrent { current } => {
                let refusals = cx.until_cancelled(env.expect(current.as_ref())).await??;
                if refusals.is_empty() {
                    return Ok(());
                }
                let error =
                    Error::new(ErrorKind::Conflict, "the state is not what the plan was made for");
                Err(error.refusals(refusals).into())
            }
            Self::Rehearse { version, verb } => env.rehearse(version, *verb, cx).await,
            Self::Bring { version, verb, .. } => env.bring(version, *verb, cx).await,
            Self::Confirm { version, guards } => env.confirm(version, guards, cx).await,
            Self::RecordHistory { version, verb, before } => {
                env.record(version, *verb, before.clone(), cx).await
            }
        }
    }

    async fn undo(&self, env: &Provider, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Bring { version, before, heard, .. } => {
                env.bring_back(version, before.as_ref(), *heard, cx).await
            }
            Self::RecordHistory { version, .. } => env.unrecord(version, cx).await,
            Self::ExpectCurrent { .. } | Self::Rehearse { .. } | Self::Confirm { .. } => Ok(()),
        }
    }
}

fn history_key(version: &Version) -> String {
    format!("history before {version}")
}

impl Provider {
    async fn expect(&self, expected: Option<&Version>) -> Result<Vec<Refusal>, Error> {
        let found = self.current().await?.version;
        if found.as_ref() == expected {
            return Ok(Vec::new());
        }
        let name = |version: Option<&Version>| {
            version.map_or("no version".to_owned(), ToString::to_string)
        };
        let found = name(found.as_ref());
        Ok(vec![Refusal::new(
            format!("{found} is in service, the plan was made for {}", name(expected)),
            "plan again",
        )])
    }

    async fn confirm(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let guards = crate::gate::guards(&self.0.guards, guards).map_err(|missing| {
            Error::new(ErrorKind::InvalidConfig, "the gate cannot be asked").refusals([missing])
        })?;
        let mut all = AllOf::new("the gate", self.0.gate.timeout).probe(self.probe(version));
        for guard in guards {
            all = all.shared(guard);
        }
        self.be_sure(&all, cx).await?.map_err(|why| {
            let what = format!("the tool has ended, but {version} is not in service: {why}");
            Error::new(ErrorKind::Gate, what).into()
        })
    }

    async fn record(
        &self,
        version: &Version,
        verb: Verb,
        before: Option<Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let path = self.history_path();
        let look = cx.blocking(move |_| Ok::<_, Error>(History::read(&path)?.is_some()));
        cx.observe(&history_key(version), look).await?;
        let (path, at) = (self.history_path(), cx.context().clock().now());
        let operation = Some(cx.operation().to_string());
        let entry = Entry { operation, ..Entry::new(version.clone(), verb, at) };
        cx.blocking(move |_| {
            let mut history = History::read(&path)?.unwrap_or_default();
            if history.0.iter().any(|known| known.operation == entry.operation) {
                return Ok::<_, Error>(());
            }
            if let Some(before) = before.filter(|before| history.latest() != Some(before)) {
                history.push(Entry::new(before, Verb::Observed, at));
            }
            history.push(entry);
            history.write(&path)
        })
        .await
    }

    async fn unrecord(&self, version: &Version, cx: &StepContext) -> Result<(), StepError> {
        let Some(existed) = cx.noted::<bool>(&history_key(version))? else { return Ok(()) };
        let (path, ours) = (self.history_path(), cx.operation().to_string());
        cx.blocking(move |_| {
            if !existed {
                return Ok(ops_core::fs::remove_file_durable(&path)?);
            }
            let Some(mut history) = History::read(&path)? else { return Ok::<_, Error>(()) };
            history.0.retain(|entry| entry.operation.as_deref() != Some(&ours));
            history.write(&path)
        })
        .await
    }
}
