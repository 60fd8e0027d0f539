//! The steps of a deployment and of a rollback.

use std::collections::BTreeMap;

use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::host::DockerHost;
use super::releases::short;
use crate::effects;
use crate::history::Verb;
use crate::planning::{as_planned, names, unexpected_in};
use crate::recording::unrecord;
use crate::stages::{self, StageStep};

/// One step on a [`DockerHost`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DockerStep {
    /// The lock on the engine is taken.
    TakeLock {
        /// The image of the container that is the lock; it is never started.
        image: String,
    },
    /// The version in service is still the one that the plan was made for.
    ExpectCurrent {
        /// The version in service; `None` if none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
    },
    /// The images are there, under their tags, and so is all else that the containers need.
    Require {
        /// The version that comes.
        version: Version,
        /// The image's id of each service.
        images: BTreeMap<String, String>,
    },
    /// The new container of a service starts beside the old one.
    StartContainer {
        /// The service.
        service: String,
        /// The version that comes.
        version: Version,
        /// How it comes: a rollback starts a container that was kept.
        verb: Verb,
    },
    /// The new containers are the right version, several times in a row.
    PassGate {
        /// The version that comes.
        version: Version,
        /// The probes that must be healthy, too, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guards: Vec<String>,
    },
    /// Instead of the gate, in an emergency: the new containers run and take connections.
    AwaitListeners {
        /// The version that comes.
        version: Version,
    },
    /// New requests of a service go to the new container.
    SwitchTraffic {
        /// The service.
        service: String,
        /// The version that comes.
        version: Version,
    },
    /// The public addresses answer as the new version.
    VerifyPublic {
        /// The version that comes.
        version: Version,
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
    /// After the commit: the old containers answer what they have begun, and stop.
    StopOthers {
        /// The version that is in service now.
        version: Version,
        /// The version whose containers keep running, out of traffic.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warm: Option<Version>,
    },
    /// After the commit: the containers and images of old releases are removed.
    RemoveOld {
        /// What is removed.
        old: Vec<Version>,
    },
    /// At the end: the lock is given back.
    ReleaseLock,
    /// What is the same on every target.
    #[serde(untagged)]
    Stage(StageStep),
}

impl Step for DockerStep {
    const FAMILY: &'static str = "docker";
    type Env = DockerHost;

    fn name(&self) -> &'static str {
        match self {
            Self::TakeLock { .. } => "take_lock",
            Self::ExpectCurrent { .. } => "expect_current",
            Self::Require { .. } => "require",
            Self::StartContainer { .. } => "start_container",
            Self::PassGate { .. } => "pass_gate",
            Self::AwaitListeners { .. } => "await_listeners",
            Self::SwitchTraffic { .. } => "switch_traffic",
            Self::VerifyPublic { .. } => "verify_public",
            Self::RecordHistory { .. } => "record_history",
            Self::StopOthers { .. } => "stop_others",
            Self::RemoveOld { .. } => "remove_old",
            Self::ReleaseLock => "release_lock",
            Self::Stage(stage) => stage.name(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::TakeLock { .. } => Effect::changes("take the lock on the engine"),
            Self::ExpectCurrent { current } => effects::expects(current.as_ref()),
            Self::Require { version, images } if images.is_empty() => {
                Effect::reads(format!("see that {version} is complete, and pin its images"))
            }
            Self::Require { version, images } => {
                let images: Vec<_> =
                    images.iter().map(|(name, id)| format!("{name} {}", short(id))).collect();
                Effect::reads(format!("see that {version} is complete: {}", images.join(", ")))
            }
            Self::StartContainer { service, version, verb: Verb::Rollback, .. } => {
                Effect::changes(format!(
                    "start `{service}` {version} beside what runs, from the container that was kept if there is one"
                ))
            }
            Self::StartContainer { service, version, .. } => {
                Effect::changes(format!("start `{service}` {version} beside what runs"))
            }
            Self::PassGate { version, guards } => {
                effects::asks("the new containers answer", version, guards)
            }
            Self::AwaitListeners { version } => effects::awaits_listeners(version),
            Self::SwitchTraffic { service, version } => {
                Effect::changes(format!("send new requests of `{service}` to {version}"))
            }
            Self::VerifyPublic { version } => {
                effects::asks("the public address answers", version, &[])
            }
            Self::RecordHistory { version, verb, .. } => effects::records(version, *verb),
            Self::StopOthers { version, warm } => effects::stops_others(version, warm.as_ref()),
            Self::RemoveOld { old } if old.is_empty() => {
                Effect::changes("remove no release, but containers that no rollback would start")
            }
            Self::RemoveOld { old } => Effect::changes(format!(
                "remove the containers and images of the old releases {}, which can be made again from their source",
                names(old)
            )),
            Self::ReleaseLock => Effect::changes("give the lock on the engine back"),
            Self::Stage(stage) => stage.effect(),
        }
    }

    async fn check(&self, host: &DockerHost, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::Stage(stage) => stages::check(stage, host, cx).await,
            Self::TakeLock { .. } => {
                let held = host.held_by_another(cx.operation());
                Ok(cx.until_cancelled(held).await??.into_iter().collect())
            }
            Self::ExpectCurrent { current } => host.expect_current(current.as_ref(), cx).await,
            Self::Require { version, images } => host.preflight(version, images, cx).await,
            Self::PassGate { guards, .. } => {
                Ok(crate::gate::guards(&host.0.guards, guards).err().into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, host: &DockerHost, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage(stage) => stages::run(stage, host, cx).await,
            Self::TakeLock { image } => host.take_lock(image, cx).await,
            Self::ExpectCurrent { current } => {
                as_planned(host.expect_current(current.as_ref(), cx).await?)
            }
            Self::Require { version, images } => host.require(version, images, cx).await,
            Self::StartContainer { service, version, verb } => {
                host.start(service, version, *verb, cx).await
            }
            Self::PassGate { version, guards } => host.pass_gate(version, guards, cx).await,
            Self::AwaitListeners { version } => host.await_listeners(version, cx).await,
            Self::SwitchTraffic { service, version } => {
                host.switch_traffic(service, version, cx).await
            }
            Self::VerifyPublic { version } => host.verify_public(version, cx).await,
            Self::RecordHistory { version, verb, before } => {
                host.record_history(version, *verb, before.as_ref(), cx).await
            }
            Self::StopOthers { version, warm } => {
                host.stop_others(version, warm.as_ref(), cx).await
            }
            Self::RemoveOld { old } => host.remove_old(old, cx).await,
            Self::ReleaseLock => host.release_lock(cx).await,
        }
    }

    async fn undo(&self, host: &DockerHost, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage(stage) => stages::undo(stage, host, cx).await,
            Self::TakeLock { image } => host.retract_lock(image, cx).await,
            Self::StartContainer { service, version, .. } => {
                host.unstart(service, version, cx).await
            }
            Self::SwitchTraffic { service, version } => {
                host.switch_traffic_back(service, version, cx).await
            }
            Self::RecordHistory { version, .. } => unrecord(host.history_path(), version, cx).await,
            Self::ExpectCurrent { .. }
            | Self::Require { .. }
            | Self::PassGate { .. }
            | Self::AwaitListeners { .. }
            | Self::VerifyPublic { .. }
            | Self::StopOthers { .. }
            | Self::RemoveOld { .. }
            | Self::ReleaseLock => Ok(()),
        }
    }
}

impl DockerHost {
    async fn expect_current(
        &self,
        expected: Option<&Version>,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let status = cx.until_cancelled(self.look()).await??;
        Ok(unexpected_in(status.current(), expected))
    }
}
