//! The steps of a deployment to a Swarm.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use ops_core::probe::AllOf;
use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::Swarm;
use super::status::observe;
use crate::docker::releases::short;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, History, Verb};

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
        /// The image's id of each service.
        images: BTreeMap<String, String>,
    },
    /// A service gets the new image, and its tasks are new ones that run.
    Update {
        /// The service.
        service: String,
        /// The version that comes.
        version: Version,
        /// The image, by digest or id.
        image: String,
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
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::TakeLock => Effect::changes("take the lock on the Swarm"),
            Self::ExpectCurrent { current: None } => {
                Effect::reads("see that no version is in service")
            }
            Self::ExpectCurrent { current: Some(version) } => {
                Effect::reads(format!("see that {version} is still in service"))
            }
            Self::Require { version, images } => {
                let images: Vec<_> =
                    images.iter().map(|(name, id)| format!("{name} {}", short(id))).collect();
                Effect::reads(format!("see that {version} is complete: {}", images.join(", ")))
            }
            Self::Update { service, version, .. } => Effect::changes(format!(
                "update the service `{service}` to {version}, new tasks before old ones"
            )),
            Self::PassGate { version, guards } if guards.is_empty() => {
                Effect::reads(format!("see that the public address answers as {version}"))
            }
            Self::PassGate { version, guards } => Effect::reads(format!(
                "see that the public address answers as {version}, and that {} is well",
                guards.join(", ")
            )),
            Self::RecordHistory { version, verb, .. } => {
                Effect::changes(format!("record the {} of {version} in the history", verb.as_str()))
            }
            Self::ReleaseLock => Effect::changes("give the lock on the Swarm back"),
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
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, swarm: &Swarm, cx: &StepContext) -> Result<(), StepError> {
        let none = |refusals: Vec<Refusal>| {
            if refusals.is_empty() {
                return Ok(());
            }
            let error =
                Error::new(ErrorKind::Conflict, "the state is not what the plan was made for");
            Err(error.refusals(refusals).into())
        };
        match self {
            Self::TakeLock => swarm.take_lock(cx).await,
            Self::ExpectCurrent { current } => none(swarm.expect_current(current.as_ref()).await?),
            Self::Require { version, images } => none(swarm.moved(version, images).await?),
            Self::Update { service, version, image } => {
                swarm.update(service, version, image, cx).await
            }
            Self::PassGate { version, guards } => swarm.pass_gate(version, guards, cx).await,
            Self::RecordHistory { version, verb, images, before } => {
                swarm.record(version, *verb, images, before.as_ref(), cx).await
            }
            Self::ReleaseLock => swarm.release_lock(cx).await,
        }
    }

    async fn undo(&self, swarm: &Swarm, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::TakeLock => swarm.release_lock(cx).await,
            Self::Update { service, version, .. } => swarm.update_back(service, version, cx).await,
            Self::RecordHistory { version, .. } => swarm.unrecord(version, cx).await,
            Self::ExpectCurrent { .. }
            | Self::Require { .. }
            | Self::PassGate { .. }
            | Self::ReleaseLock => Ok(()),
        }
    }
}

fn history_key(version: &Version) -> String {
    format!("history before {version}")
}

impl Swarm {
    async fn expect_current(&self, expected: Option<&Version>) -> Result<Vec<Refusal>, StepError> {
        let status = self.look().await?;
        let found = match status.current() {
            Ok(found) => found,
            Err(error) => return Ok(error.reasons().to_vec()),
        };
        if found == expected {
            return Ok(Vec::new());
        }
        let name = |version: Option<&Version>| {
            version.map_or("no version".to_owned(), ToString::to_string)
        };
        Ok(vec![Refusal::new(
            format!("{} is in service, the plan was made for {}", name(found), name(expected)),
            "plan again",
        )])
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
        let guards = crate::gate::guards(&self.0.guards, guards).map_err(|missing| {
            Error::new(ErrorKind::InvalidConfig, "the gate cannot be asked").refusals([missing])
        })?;
        let mut all = AllOf::new("the gate", self.0.gate.timeout);
        for probe in self.0.services.iter().filter_map(|service| service.probe(version)) {
            all = all.probe(probe);
        }
        for guard in guards {
            all = all.shared(guard);
        }
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
        let path = self.history_path();
        let look = cx.blocking(move |_| Ok::<_, Error>(History::read(&path)?.is_some()));
        cx.observe(&history_key(version), look).await?;
        let entry = Entry {
            operation: Some(cx.operation().to_string()),
            images: images.clone(),
            ..Entry::new(version.clone(), verb, cx.context().clock().now())
        };
        let (path, before) = (self.history_path(), before.cloned());
        cx.blocking(move |_| {
            let mut history = History::read(&path)?.unwrap_or_default();
            if history.0.iter().any(|known| known.operation == entry.operation) {
                return Ok::<_, Error>(());
            }
            observe(&mut history, before.as_ref(), &BTreeMap::new());
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
