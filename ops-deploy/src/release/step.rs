//! The steps of a deployment and of a rollback.

use ops_core::{Effect, Refusal, Step, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::directory::ReleaseDirectory;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, History, Verb};

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
            Self::RequireRelease { version } => {
                Effect::reads(format!("see that release {version} is complete"))
            }
            Self::StartService { version } => {
                Effect::changes(format!("start {version} beside what runs"))
            }
            Self::PassGate { version, guards } if guards.is_empty() => {
                Effect::reads(format!("see that the new instance answers as {version}"))
            }
            Self::PassGate { version, guards } => Effect::reads(format!(
                "see that the new instance answers as {version}, and that {} is well",
                guards.join(", ")
            )),
            Self::AwaitListener { version } => Effect::reads(format!(
                "see that {version} takes connections, and do not ask for its health"
            )),
            Self::SwitchTraffic { version } => {
                Effect::changes(format!("send new requests to {version}"))
            }
            Self::MoveCurrent { version } => {
                Effect::changes(format!("point `current` to releases/{version}"))
            }
            Self::VerifyPublic { version } => {
                Effect::reads(format!("see that the public address answers as {version}"))
            }
            Self::RecordHistory { version, verb } => {
                Effect::changes(format!("record the {} of {version} in the history", verb.as_str()))
            }
            Self::StopOthers { version, warm: None } => Effect::changes(format!(
                "let what is not the new {version} answer its last requests, and stop it (a rollback starts it again)"
            )),
            Self::StopOthers { version, warm: Some(warm) } => Effect::changes(format!(
                "let what is not the new {version} answer its last requests, and stop it, but for {warm}, which stays warm"
            )),
            Self::RemoveReleases { old } if old.is_empty() => {
                Effect::changes("remove no release, but what earlier clean-ups left")
            }
            Self::RemoveReleases { old } => Effect::changes(format!(
                "remove the old releases {}, which can be made again from their source",
                super::directory::names(old)
            )),
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
            Self::PassGate { guards, .. } => Ok(site.guards(guards).err().into_iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    async fn run(&self, site: &ReleaseDirectory, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::ExpectCurrent { current } => {
                let refusals = site.expect_current(current.as_ref(), cx).await?;
                if refusals.is_empty() {
                    return Ok(());
                }
                let error =
                    Error::new(ErrorKind::Conflict, "the state is not what the plan was made for");
                Err(error.refusals(refusals).into())
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
        }
    }

    async fn undo(&self, site: &ReleaseDirectory, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::StartService { version } => site.unstart(version, cx).await,
            Self::SwitchTraffic { version } => site.switch_traffic_back(version, cx).await,
            Self::MoveCurrent { version } => site.move_current_back(version, cx).await,
            Self::RecordHistory { version, .. } => site.unrecord_history(version, cx).await,
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

fn history_key(version: &Version) -> String {
    format!("history before {version}")
}

impl ReleaseDirectory {
    async fn expect_current(
        &self,
        expected: Option<&Version>,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let status = cx.until_cancelled(self.look()).await??;
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

    async fn record_history(
        &self,
        version: &Version,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let site = self.clone();
        let look =
            cx.blocking(move |_| Ok::<_, Error>(History::read(&site.history_path())?.is_some()));
        cx.observe(&history_key(version), look).await?;
        let operation = Some(cx.operation().to_string());
        let entry =
            Entry { operation, ..Entry::new(version.clone(), verb, cx.context().clock().now()) };
        let before = Self::linked_before(version, cx)?;
        let site = self.clone();
        cx.blocking(move |_| {
            let path = site.history_path();
            let mut history = match History::read(&path)? {
                Some(history) => history,
                None => site.rebuilt_history(before, &entry)?,
            };
            let ours = |known: &Entry| {
                known.operation == entry.operation && known.version == entry.version
            };
            if history.0.iter().any(ours) {
                return Ok(());
            }
            history.push(entry);
            history.write(&path)
        })
        .await
    }

    async fn unrecord_history(&self, version: &Version, cx: &StepContext) -> Result<(), StepError> {
        let Some(existed) = cx.noted::<bool>(&history_key(version))? else { return Ok(()) };
        let (site, version, id) = (self.clone(), version.clone(), cx.operation().to_string());
        cx.blocking(move |_| {
            let path = site.history_path();
            if !existed {
                return Ok(ops_core::fs::remove_file_durable(&path)?);
            }
            let Some(mut history) = History::read(&path)? else { return Ok(()) };
            let before = history.0.len();
            history.0.retain(|entry| {
                entry.operation.as_deref() != Some(&id) || entry.version != version
            });
            if history.0.len() == before {
                return Ok(());
            }
            history.write(&path)
        })
        .await
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
