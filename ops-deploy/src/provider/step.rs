//! The steps of a deployment by a provider.

use ops_core::probe::AllOf;
use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::effects;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, History, Verb};
use crate::planning::{as_planned, unexpected};
use crate::recording::{entry, record, unrecord};
use crate::stages::{self, StageStep};

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
    /// What is the same on every target.
    #[serde(untagged)]
    Stage(StageStep),
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
            Self::Stage(stage) => stage.name(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::ExpectCurrent { current } => effects::expects(current.as_ref()),
            Self::Rehearse { version, .. } => {
                Effect::reads(format!("let the provider's tool rehearse {version}"))
            }
            Self::Bring { version, verb: Verb::Rollback, .. } => {
                Effect::changes(format!("let the provider's tool go back to {version}"))
            }
            Self::Bring { version, .. } => {
                Effect::changes(format!("let the provider's tool deploy {version}"))
            }
            Self::Confirm { version, guards } => {
                effects::asks("the public address answers", version, guards)
            }
            Self::RecordHistory { version, verb, .. } => effects::records(version, *verb),
            Self::Stage(stage) => stage.effect(),
        }
    }

    async fn check(&self, env: &Provider, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::Stage(stage) => stages::check(stage, env, cx).await,
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
                as_planned(cx.until_cancelled(env.expect(current.as_ref())).await??)
            }
            Self::Rehearse { version, verb } => env.rehearse(version, *verb, cx).await,
            Self::Bring { version, verb, .. } => env.bring(version, *verb, cx).await,
            Self::Confirm { version, guards } => env.confirm(version, guards, cx).await,
            Self::RecordHistory { version, verb, before } => {
                env.record(version, *verb, before.clone(), cx).await
            }
            Self::Stage(stage) => stages::run(stage, env, cx).await,
        }
    }

    async fn undo(&self, env: &Provider, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Bring { version, before, heard, .. } => {
                env.bring_back(version, before.as_ref(), *heard, cx).await
            }
            Self::RecordHistory { version, .. } => unrecord(env.history_path(), version, cx).await,
            Self::Stage(stage) => stages::undo(stage, env, cx).await,
            Self::ExpectCurrent { .. } | Self::Rehearse { .. } | Self::Confirm { .. } => Ok(()),
        }
    }
}

impl Provider {
    async fn expect(&self, expected: Option<&Version>) -> Result<Vec<Refusal>, Error> {
        Ok(unexpected(self.current().await?.version.as_ref(), expected))
    }

    async fn confirm(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let all = AllOf::new("the gate", self.0.gate.timeout).probe(self.probe(version));
        let all = crate::gate::guarded(all, &self.0.guards, guards)?;
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
        let closes_way_back = self.0.stages.closes_way_back(version, cx)?;
        let entry = Entry { closes_way_back, ..entry(version, verb, cx) };
        let at = entry.at;
        let complete = move |known: Option<_>| {
            let mut history: History = known.unwrap_or_default();
            if let Some(before) = before.filter(|before| history.latest() != Some(before)) {
                history.push(Entry::new(before, Verb::Observed, at));
            }
            Ok(history)
        };
        record(self.history_path(), entry, complete, cx).await
    }
}
