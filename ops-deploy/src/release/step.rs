//! The steps of a deployment and of a rollback.

use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use super::switch::pointer_key;
use crate::effects;
use crate::error::Error;
use crate::history::{Entry, History, Verb};
use crate::planning::{as_planned, names, unexpected_in};
use crate::recording::{entry, record, unrecord};
use crate::speed;
use crate::stages::{self, StageStep};

/// One step on a [`ReleaseDirectory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReleaseStep {
    /// The version in service is still the one that the plan was made for.
    ExpectCurrent {
        /// The version in service; `None` if none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
    },
    /// The release has its folder and its required files.
    RequireRelease {
        /// The version that comes.
        version: Version,
    },
    /// The new instance starts beside the old one, on a port of its own.
    StartService {
        /// The version that comes.
        version: Version,
    },
    /// The new instance is the right version, several times in a row.
    PassGate {
        /// The version that comes.
        version: Version,
        /// The probes that must be healthy, too, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guards: Vec<String>,
    },
    /// Instead of the gate, in an emergency: the new instance runs and takes connections.
    AwaitListener {
        /// The version that comes.
        version: Version,
    },
    /// New requests go to the new instance.
    SwitchTraffic {
        /// The version that comes.
        version: Version,
    },
    /// The symlink `current` names the new version.
    MoveCurrent {
        /// The version that comes.
        version: Version,
    },
    /// The public address answers as the new version.
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
    },
    /// After the commit: the old instance answers what it has begun, and ends.
    StopOthers {
        /// The version that is in service now.
        version: Version,
        /// The version of which an instance keeps running, out of traffic.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warm: Option<Version>,
    },
    /// After the commit: old releases are removed.
    RemoveReleases {
        /// What is removed.
        old: Vec<Version>,
    },
    /// What is the same on every target.
    #[serde(untagged)]
    Stage(StageStep),
}

impl Step for ReleaseStep {
    const FAMILY: &'static str = "release";
    type Env = ReleaseDirectory;

    fn name(&self) -> &'static str {
        match self {
            Self::ExpectCurrent { .. } => "expect_current",
            Self::RequireRelease { .. } => "require_release",
            Self::StartService { .. } => "start_service",
            Self::PassGate { .. } => "pass_gate",
            Self::AwaitListener { .. } => "await_listener",
            Self::SwitchTraffic { .. } => "switch_traffic",
            Self::MoveCurrent { .. } => "move_current",
            Self::VerifyPublic { .. } => "verify_public",
            Self::RecordHistory { .. } => "record_history",
            Self::StopOthers { .. } => "stop_others",
            Self::RemoveReleases { .. } => "remove_releases",
            Self::Stage(stage) => stage.name(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::ExpectCurrent { current } => effects::expects(current.as_ref()),
            Self::RequireRelease { version } => {
                Effect::reads(format!("see that release {version} is complete"))
            }
            Self::StartService { version } => {
                Effect::changes(format!("start {version} beside what runs"))
            }
            Self::PassGate { version, guards } => {
                effects::asks("the new instance answers", version, guards)
            }
            Self::AwaitListener { version } => effects::awaits_listeners(version),
            Self::SwitchTraffic { version } => {
                Effect::changes(format!("send new requests to {version}"))
            }
            Self::MoveCurrent { version } => {
                Effect::changes(format!("point `current` to releases/{version}"))
            }
            Self::VerifyPublic { version } => {
                effects::asks("the public address answers", version, &[])
            }
            Self::RecordHistory { version, verb } => effects::records(version, *verb),
            Self::StopOthers { version, warm } => effects::stops_others(version, warm.as_ref()),
            Self::RemoveReleases { old } if old.is_empty() => {
                Effect::changes("remove no release, but what earlier clean-ups left")
            }
            Self::RemoveReleases { old } => Effect::changes(format!(
                "remove the old releases {}, which can be made again from their source",
                names(old)
            )),
            Self::Stage(stage) => stage.effect(),
        }
    }

    async fn check(
        &self,
        site: &ReleaseDirectory,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::ExpectCurrent { current } => {
                Ok(site.expect_current(current.as_ref(), cx).await?)
            }
            Self::PassGate { guards, .. } => {
                Ok(crate::gate::guards(&site.0.guards, guards).err().into_iter().collect())
            }
            Self::Stage(stage) => stages::check(stage, site, cx).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, site: &ReleaseDirectory, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::ExpectCurrent { current } => {
                as_planned(site.expect_current(current.as_ref(), cx).await?)
            }
            Self::RequireRelease { version } => {
                let (site, version) = (site.clone(), version.clone());
                cx.blocking(move |_| {
                    if site.lacking(&version).is_empty() {
                        Ok(())
                    } else {
                        Err(site.incomplete(&version))
                    }
                })
                .await
            }
            Self::StartService { version } => site.start(version, cx).await,
            Self::PassGate { version, guards } => site.pass_gate(version, guards, cx).await,
            Self::AwaitListener { version } => site.await_listener(version, cx).await,
            Self::SwitchTraffic { version } => site.switch_traffic(version, cx).await,
            Self::MoveCurrent { version } => site.move_current(version, cx).await,
            Self::VerifyPublic { version } => site.verify_public(version, cx).await,
            Self::RecordHistory { version, verb } => site.record_history(version, *verb, cx).await,
            Self::StopOthers { version, warm } => {
                site.stop_others(version, warm.as_ref(), cx).await
            }
            Self::RemoveReleases { old } => site.remove_releases(old, cx).await,
            Self::Stage(stage) => stages::run(stage, site, cx).await,
        }
    }

    async fn undo(&self, site: &ReleaseDirectory, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::StartService { version } => site.unstart(version, cx).await,
            Self::SwitchTraffic { version } => site.switch_traffic_back(version, cx).await,
            Self::MoveCurrent { version } => site.move_current_back(version, cx).await,
            Self::RecordHistory { version, .. } => unrecord(site.history_path(), version, cx).await,
            Self::Stage(stage) => stages::undo(stage, site, cx).await,
            Self::ExpectCurrent { .. }
            | Self::RequireRelease { .. }
            | Self::PassGate { .. }
            | Self::AwaitListener { .. }
            | Self::VerifyPublic { .. }
            | Self::StopOthers { .. }
            | Self::RemoveReleases { .. } => Ok(()),
        }
    }
}

impl ReleaseDirectory {
    async fn expect_current(
        &self,
        expected: Option<&Version>,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let status = cx.until_cancelled(self.look()).await??;
        Ok(unexpected_in(status.current(), expected))
    }

    async fn record_history(
        &self,
        version: &Version,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if verb == Verb::Rollback {
            let placement = Placement::known(version, cx)?;
            let from = if placement.warm { speed::From::Warm } else { speed::From::Stopped };
            speed::rate([from], [pointer_key(version)], cx).await?;
        }
        let closes_way_back = self.0.stages.closes_way_back(version, cx)?;
        let entry = Entry { closes_way_back, ..entry(version, verb, cx) };
        let before = Self::linked_before(version, cx)?;
        let (site, comes) = (self.clone(), entry.clone());
        let complete = move |known: Option<_>| match known {
            Some(history) => Ok(history),
            None => site.rebuilt_history(before, &comes),
        };
        record(self.history_path(), entry, complete, cx).await
    }

    /// A history from what is there: the complete releases by age, the one in service before last.
    /// The version that comes is left out. When the others came is unknown: it says now.
    fn rebuilt_history(&self, before: Option<Version>, comes: &Entry) -> Result<History, Error> {
        let Some(before) = before else { return Ok(History::default()) };
        let mut versions = self.complete()?;
        versions.retain(|version| *version != comes.version && *version != before);
        versions.push(before);
        let entries = versions.into_iter().map(|v| Entry::new(v, Verb::Observed, comes.at));
        Ok(History(entries.collect()))
    }
}
