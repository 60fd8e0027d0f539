//! Deployers exclude each other by a name on the engine: that of a container which is never
//! started. Creating a name is atomic.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use jiff::{SignedDuration, Timestamp};
use ops_core::{Class, OperationId, Refusal, StepContext, StepError};

use super::containers::{APPLICATION, OPERATION, ROLE, name_of};
use super::engine::Made;
use super::host::DockerHost;
use crate::error::{Error, ErrorKind};
use crate::target::LockHolder;

const LOCK: &str = "lock";
const MACHINE: &str = "ops-deploy.machine";
const PROCESS: &str = "ops-deploy.process";
const LEASE: &str = "ops-deploy.lease-seconds";
/// How often an expired lock may vanish or appear under our hands.
const TRIES: u32 = 5;
/// How often, and after how long, a lock that has a name already is looked for.
const LATE_TRIES: u32 = 100;
const LATE_POLL: Duration = Duration::from_millis(20);

/// Who holds a lock.
#[derive(Debug)]
pub(super) struct Holder {
    id: String,
    name: String,
    operation: String,
    who: String,
    since: Timestamp,
    until: Timestamp,
}

impl Holder {
    fn refusal(&self) -> Refusal {
        let Self { operation, who, since, until, .. } = self;
        Refusal::new(
            format!("operation {operation} of {who} holds the lock since {since}"),
            format!("wait for it; if it died, recover it there; from {until} on it is taken over"),
        )
        .class_of(Class::Temporary)
    }
}

impl From<Holder> for LockHolder {
    fn from(Holder { operation, who, since, until, .. }: Holder) -> Self {
        Self { operation, who, since, until }
    }
}

impl DockerHost {
    pub(super) async fn holder(&self) -> Result<Option<LockHolder>, Error> {
        Ok(self.locks().await?.0.map(Into::into))
    }

    pub(super) fn lock_name(&self) -> String {
        format!("{}.ops-lock", self.0.application)
    }

    /// The container with the lock's name, and what is left of ones that expired.
    async fn locks(&self) -> Result<(Option<Holder>, Vec<Holder>), Error> {
        let label = format!("{APPLICATION}={}", self.0.application);
        let mut all = Vec::new();
        for found in self.0.engine.containers(&label).await? {
            let none = HashMap::new();
            let labels = found.labels.as_ref().unwrap_or(&none);
            if labels.get(ROLE).map(String::as_str) != Some(LOCK) {
                continue;
            }
            let get = |label: &str| labels.get(label).cloned().unwrap_or_else(|| "unknown".into());
            let since = found.created.and_then(|at| Timestamp::from_second(at).ok());
            let lease = labels.get(LEASE).and_then(|text| text.parse::<i64>().ok());
            // What cannot be read, such as a newer deployer's, is not free.
            let until = since.zip(lease).and_then(|(since, lease)| {
                since.checked_add(SignedDuration::from_secs(lease)).ok()
            });
            all.push(Holder {
                name: name_of(&found),
                id: found.id.clone().unwrap_or_default(),
                operation: get(OPERATION),
                who: format!("process {} on `{}`", get(PROCESS), get(MACHINE)),
                since: since.unwrap_or_default(),
                until: until.unwrap_or(Timestamp::MAX),
            });
        }
        let name = self.lock_name();
        let (mut held, expired): (Vec<_>, _) = all.into_iter().partition(|it| it.name == name);
        Ok((held.pop(), expired))
    }

    /// A container with the lock's name that is no lock of ours.
    async fn stranger(&self) -> Result<Option<Refusal>, Error> {
        let name = self.lock_name();
        let Some(found) = self.0.engine.inspect(&name).await? else { return Ok(None) };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let has = |label: &str, value: &str| labels.get(label).is_some_and(|it| it == value);
        if has(ROLE, LOCK) && has(APPLICATION, &self.0.application) {
            return Ok(None);
        }
        let reason = format!("the container `{name}` is there, and is no lock of a deployer");
        Ok(Some(Refusal::new(reason, "see whose it is, and remove or rename it")))
    }

    /// Who else holds the lock, and may keep it.
    pub(super) async fn held_by_another(
        &self,
        ours: OperationId,
    ) -> Result<Option<Refusal>, Error> {
        let (held, _) = self.locks().await?;
        if held.is_none() {
            return self.stranger().await;
        }
        let Some(held) = held.filter(|it| it.operation != ours.to_string()) else {
            return Ok(None);
        };
        let expired = self.0.engine.now().await? >= held.until;
        Ok((!expired).then(|| held.refusal()))
    }

    /// Takes the lock, also over from one that expired: it gets another name by its id, and of
    /// those who then create the name exactly one wins.
    pub(super) async fn take_lock(&self, image: &str, cx: &StepContext) -> Result<(), StepError> {
        let (name, ours) = (self.lock_name(), cx.operation().to_string());
        for _ in 0..TRIES {
            cx.fault_point("docker: lock about to be made");
            if self.0.engine.create(&name, self.lock(image, &ours)).await? == Made::Now {
                cx.fault_point("docker: lock made");
                return self.forget_expired_locks().await;
            }
            let (Some(held), _) = self.locks().await? else {
                if let Some(stranger) = self.stranger().await? {
                    let error = Error::new(ErrorKind::Conflict, "the lock cannot be taken");
                    return Err(error.refusals([stranger]).into());
                }
                continue;
            };
            if held.operation == ours {
                return Ok(());
            }
            if self.0.engine.now().await? < held.until {
                let error = Error::new(ErrorKind::Locked, "somebody else deploys");
                return Err(error.refusals([held.refusal()]).into());
            }
            tracing::warn!(target: "ops", operation = held.operation, who = held.who, "the lock has expired and is taken over");
            let aside = format!("{name}.expired.{ours}");
            self.0.engine.rename(&held.id, &aside).await?;
            cx.fault_point("docker: expired lock moved aside");
        }
        Err(StepError::temporary("the lock changes hands all the time").remedy("try again"))
    }

    async fn forget_expired_locks(&self) -> Result<(), StepError> {
        let (_, expired) = self.locks().await?;
        for lock in expired {
            self.0.engine.remove(&lock.id).await?;
        }
        Ok(())
    }

    /// Gives the lock back, if it is ours.
    pub(super) async fn release_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let (held, _) = self.locks().await?;
        if let Some(held) = held.filter(|it| it.operation == cx.operation().to_string()) {
            self.0.engine.remove(&held.id).await?;
        }
        Ok(())
    }

    /// Gives the lock back, also one that the engine is only about to make: it goes on with what a
    /// deployer that has died asked for. So the name is taken once more, for which the engine makes one
    /// wait for the other, and what has it is given back.
    pub(super) async fn retract_lock(
        &self,
        image: &str,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let (name, ours) = (self.lock_name(), cx.operation().to_string());
        for _ in 0..LATE_TRIES {
            let (held, _) = self.locks().await?;
            if held.is_some() {
                return self.release_lock(cx).await;
            }
            // Without the image nobody's call makes it.
            if self.0.engine.image(image).await?.is_none() {
                return Ok(());
            }
            if self.0.engine.create(&name, self.lock(image, &ours)).await? == Made::NameTaken {
                tokio::time::sleep(LATE_POLL).await;
            }
        }
        // Whatever has the name is no lock.
        Ok(())
    }

    /// Nothing is changed without the lock: a prune may have removed it, and somebody else may have
    /// taken it over.
    pub(super) async fn hold_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let (held, _) = self.locks().await?;
        let error = Error::new(ErrorKind::Conflict, "the lock on the engine is lost");
        let reason = match held {
            Some(held) if held.operation == cx.operation().to_string() => return Ok(()),
            Some(held) => held.refusal(),
            None => Refusal::new(
                format!("the container `{}` is gone", self.lock_name()),
                "see who removes stopped containers here, and try again",
            ),
        };
        Err(error.refusals([reason]).into())
    }

    /// Whether an operation after ours has the lock: it clears up behind itself, and us.
    pub(super) async fn is_superseded(&self, cx: &StepContext) -> Result<bool, StepError> {
        let (held, _) = self.locks().await?;
        let other = held.filter(|it| it.operation != cx.operation().to_string());
        if let Some(other) = &other {
            tracing::warn!(target: "ops", operation = other.operation, who = other.who, "a later operation clears up");
        }
        Ok(other.is_some())
    }

    fn lock(&self, image: &str, operation: &str) -> ContainerCreateBody {
        let seconds = |duration: Duration| duration.as_secs().to_string();
        let labels = [
            (APPLICATION, self.0.application.clone()),
            (ROLE, LOCK.to_owned()),
            (OPERATION, operation.to_owned()),
            (MACHINE, machine()),
            (PROCESS, std::process::id().to_string()),
            (LEASE, seconds(self.0.lease)),
        ];
        ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["never-started".to_owned()]),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

fn machine() -> String {
    ops_core::host::hostname()
}
