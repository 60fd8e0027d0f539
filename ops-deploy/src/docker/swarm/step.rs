//! The steps of a deployment to a Swarm.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use ops_core::probe::AllOf;
use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::Swarm;
use super::status::observe;
use crate::docker::releases::{complete, short};
use crate::effects;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, Verb};
use crate::planning::{as_planned, unexpected_in};
use crate::recording::{entry, record, unrecord};
use crate::stages::{self, StageStep};

/// One step on a [`Swarm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwarmStep {
    /// The lock on the Swarm is taken.
    TakeLock,
    /// The version in service is still the one that the plan was made for.
    ExpectCurrent {
        /// The version in service; `None` if none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
    },
    /// The images are there, under their tags.
    Require {
        /// The version that comes.
        version: Version,
        /// The image's id of each service; empty to pin what was made.
        images: BTreeMap<String, String>,
    },
    /// A service gets the new image, and its tasks are new ones that run.
    Update {
        /// The service.
        service: String,
        /// The version that comes.
        version: Version,
        /// The image, by digest or id; empty for the one that was pinned when it was made.
        image: String,
        /// How it comes.
        #[serde(default = "deploy")]
        verb: Verb,
        /// Whether old tasks end before new ones start.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stop_first: bool,
    },
    /// The public addresses answer as the new version, several times in a row.
    PassGate {
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
        /// The image's id of each service.
        images: BTreeMap<String, String>,
        /// The version that goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Version>,
    },
    /// At the end: the lock is given back.
    ReleaseLock,
    /// What is the same on every target.
    #[serde(untagged)]
    Stage(StageStep),
}

impl Step for SwarmStep {
    const FAMILY: &'static str = "swarm";
    type Env = Swarm;

    fn name(&self) -> &'static str {
        match self {
            Self::TakeLock => "take_lock",
            Self::ExpectCurrent { .. } => "expect_current",
            Self::Require { .. } => "require",
            Self::Update { .. } => "update",
            Self::PassGate { .. } => "pass_gate",
            Self::RecordHistory { .. } => "record_history",
            Self::ReleaseLock => "release_lock",
            Self::Stage(stage) => stage.name(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::TakeLock => Effect::changes("take the lock on the Swarm"),
            Self::ExpectCurrent { current } => effects::expects(current.as_ref()),
            Self::Require { version, images } if images.is_empty() => {
                Effect::reads(format!("see that {version} is complete, and pin its images"))
            }
            Self::Require { version, images } => {
                let images: Vec<_> =
                    images.iter().map(|(name, id)| format!("{name} {}", short(id))).collect();
                Effect::reads(format!("see that {version} is complete: {}", images.join(", ")))
            }
            Self::Update { service, version, stop_first: true, .. } => Effect::changes(format!(
                "update the service `{service}` to {version}, old tasks before new ones: nobody answers in between"
            )),
            Self::Update { service, version, .. } => Effect::changes(format!(
                "update the service `{service}` to {version}, new tasks before old ones"
            )),
            Self::PassGate { version, guards } => {
                effects::asks("the public address answers", version, guards)
            }
            Self::RecordHistory { version, verb, .. } => effects::records(version, *verb),
            Self::ReleaseLock => {
                Effect::changes("remove secrets that no service has, and give the lock back")
            }
            Self::Stage(stage) => stage.effect(),
        }
    }

    async fn check(&self, swarm: &Swarm, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::TakeLock => {
                Ok(swarm.held_by_another(cx.operation()).await?.into_iter().collect())
            }
            Self::ExpectCurrent { current } => swarm.expect_current(current.as_ref()).await,
            Self::Require { version, images } => swarm.moved(version, images).await,
            Self::PassGate { guards, .. } => {
                Ok(crate::gate::guards(&swarm.0.guards, guards).err().into_iter().collect())
            }
            Self::Stage(stage) => stages::check(stage, swarm, cx).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, swarm: &Swarm, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::TakeLock => swarm.take_lock(cx).await,
            Self::ExpectCurrent { current } => {
                as_planned(swarm.expect_current(current.as_ref()).await?)
            }
            Self::Require { version, images } => swarm.require(version, images, cx).await,
            Self::Update { service, version, image, verb, .. } => {
                swarm.update(service, version, image, *verb, cx).await
            }
            Self::PassGate { version, guards } => swarm.pass_gate(version, guards, cx).await,
            Self::RecordHistory { version, verb, images, before } => {
                swarm.record(version, *verb, images, before.as_ref(), cx).await
            }
            Self::ReleaseLock => {
                // After a take-over there are secrets that no service has yet.
                if swarm.has_lock(cx).await? {
                    swarm.remove_secrets().await?;
                }
                swarm.release_lock(cx).await
            }
            Self::Stage(stage) => stages::run(stage, swarm, cx).await,
        }
    }

    async fn undo(&self, swarm: &Swarm, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::TakeLock => swarm.retract_lock(cx).await,
            Self::Update { service, version, .. } => swarm.update_back(service, version, cx).await,
            Self::RecordHistory { version, .. } => {
                unrecord(swarm.history_path(), version, cx).await
            }
            Self::Stage(stage) => stages::undo(stage, swarm, cx).await,
            Self::ExpectCurrent { .. }
            | Self::Require { .. }
            | Self::PassGate { .. }
            | Self::ReleaseLock => Ok(()),
        }
    }
}

/// What journals meant that did not say how a version comes.
fn deploy() -> Verb {
    Verb::Deploy
}

fn pins_key(version: &Version) -> String {
    format!("images of {version}")
}

impl Swarm {
    async fn expect_current(&self, expected: Option<&Version>) -> Result<Vec<Refusal>, StepError> {
        Ok(unexpected_in(self.look().await?.current(), expected))
    }

    /// The images with which the operation brings a version.
    pub(super) fn pinned(
        version: &Version,
        cx: &StepContext,
    ) -> Result<BTreeMap<String, String>, StepError> {
        cx.noted(&pins_key(version))?.ok_or_else(|| {
            StepError::permanent(format!("the images of {version} are not pinned"))
                .remedy("require them before, in the same operation")
        })
    }

    async fn require(
        &self,
        version: &Version,
        images: &BTreeMap<String, String>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        as_planned(self.moved(version, images).await?)?;
        let pins = async {
            if !images.is_empty() {
                return Ok(images.clone());
            }
            let status = self.look().await?;
            Ok(complete(version, &status.releases)?.images.clone())
        };
        let _: BTreeMap<String, String> = cx.observe(&pins_key(version), pins).await?;
        Ok(())
    }

    /// Tags that do not name the planned images any more.
    async fn moved(
        &self,
        version: &Version,
        images: &BTreeMap<String, String>,
    ) -> Result<Vec<Refusal>, StepError> {
        let status = self.look().await?;
        let now = Self::images_of(&status, version);
        let mut moved = Vec::new();
        for (service, pinned) in images {
            match now.get(service) {
                Some(now) if now == pinned => {}
                Some(now) => moved.push(Refusal::new(
                    format!(
                        "the tag of `{service}` {version} has moved from {} to {}",
                        short(pinned),
                        short(now)
                    ),
                    "build what is new under a version of its own, and plan again",
                )),
                None => moved.push(Refusal::new(
                    format!("there is no image of `{service}` {version} any more"),
                    "bring it back to the manager, and plan again",
                )),
            }
        }
        Ok(moved)
    }

    async fn pass_gate(
        &self,
        version: &Version,
        guards: &[String],
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let mut all = AllOf::new("the gate", self.0.gate.timeout);
        for probe in self.0.services.iter().filter_map(|service| service.probe(version)) {
            all = all.probe(probe);
        }
        let all = crate::gate::guarded(all, &self.0.guards, guards)?;
        let alive = || async { Ok(Ok(())) }.boxed();
        let needed = self.0.gate.consecutive;
        self.0.gate.be_sure(&all, needed, &alive, cx).await?.map_err(|why| {
            Error::new(ErrorKind::Gate, format!("{version} does not pass: {why}")).into()
        })
    }

    async fn record(
        &self,
        version: &Version,
        verb: Verb,
        images: &BTreeMap<String, String>,
        before: Option<&Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        self.hold_lock(cx).await?;
        let images = if images.is_empty() { Self::pinned(version, cx)? } else { images.clone() };
        let closes_way_back = self.0.stages.closes_way_back(version, cx)?;
        let entry = Entry { images, closes_way_back, ..entry(version, verb, cx) };
        let (before, (came_by, closes)) = (before.cloned(), self.came_by(version, cx)?);
        let complete = move |known: Option<_>| {
            let mut history = known.unwrap_or_default();
            observe(&mut history, before.as_ref(), &BTreeMap::new(), came_by, closes);
            Ok(history)
        };
        record(self.history_path(), entry, complete, cx).await
    }
}
