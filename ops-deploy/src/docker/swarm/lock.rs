//! Deployers exclude each other by a config object: its name is unique, and it is changed by
//! compare-and-swap only.

use std::collections::HashMap;

use bollard::models::Config;
use jiff::{SignedDuration, Timestamp};
use ops_core::{Class, OperationId, Refusal, StepContext, StepError};

use super::super::containers::{APPLICATION, OPERATION};
use super::super::engine::Made;
use super::Swarm;
use super::cluster::Swap;
use crate::error::{Error, ErrorKind};
use crate::target::LockHolder;

const WHO: &str = "ops-deploy.who";
const SINCE: &str = "ops-deploy.since";
const UNTIL: &str = "ops-deploy.until";
/// How often a lock may vanish or change under our hands.
const TRIES: u32 = 5;

struct Held {
    operation: String,
    who: String,
    since: String,
    until: Timestamp,
}

fn read(config: &Config) -> Held {
    let labels = config.spec.as_ref().and_then(|spec| spec.labels.clone()).unwrap_or_default();
    let get = |label: &str| labels.get(label).cloned().unwrap_or_else(|| "unknown".into());
    Held {
        operation: get(OPERATION),
        who: get(WHO),
        since: get(SINCE),
        // What cannot be read, such as a newer deployer's, is not free.
        until: get(UNTIL).parse().unwrap_or(Timestamp::MAX),
    }
}

impl Held {
    fn refusal(&self) -> Refusal {
        let Self { operation, who, since, until } = self;
        let after = if *until == Timestamp::MAX {
            "until when cannot be read: see `docker config ls` once nobody deploys".to_owned()
        } else {
            format!("from {until} on it is taken over")
        };
        Refusal::new(
            format!("operation {operation} of {who} holds the lock since {since}"),
            format!("wait for it; if it died, recover it there; {after}"),
        )
        .class_of(Class::Temporary)
    }
}

impl Swarm {
    fn lock_name(&self) -> String {
        format!("{}.ops-lock", self.0.application)
    }

    pub(super) async fn holder(&self) -> Result<Option<LockHolder>, Error> {
        let Some(config) = self.0.engine.config(&self.lock_name()).await? else { return Ok(None) };
        let Held { operation, who, since, until } = read(&config);
        let since = since.parse().unwrap_or(Timestamp::MIN);
        Ok(Some(LockHolder { operation, who, since, until }))
    }

    pub(super) async fn held_by_another(
        &self,
        ours: OperationId,
    ) -> Result<Option<Refusal>, Error> {
        let Some(config) = self.0.engine.config(&self.lock_name()).await? else { return Ok(None) };
        let held = read(&config);
        let free = held.operation == ours.to_string() || self.0.engine.now().await? >= held.until;
        Ok((!free).then(|| held.refusal()))
    }

    /// Takes the lock, also over from one that expired: of those who try exactly one wins.
    pub(super) async fn take_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let (name, ours) = (self.lock_name(), cx.operation().to_string());
        for _ in 0..TRIES {
            let now = self.0.engine.now().await?;
            let labels = self.lock_labels(&ours, now);
            cx.fault_point("swarm: lock about to be made");
            if self.0.engine.create_config(&name, labels.clone()).await? == Made::Now {
                cx.fault_point("swarm: lock made");
                return Ok(());
            }
            let Some(config) = self.0.engine.config(&name).await? else { continue };
            let held = read(&config);
            if held.operation == ours {
                return Ok(());
            }
            if now < held.until {
                let error = Error::new(ErrorKind::Locked, "somebody else deploys");
                return Err(error.refusals([held.refusal()]).into());
            }
            tracing::warn!(target: "ops", operation = held.operation, who = held.who, "the lock has expired and is taken over");
            if self.0.engine.relabel_config(&config, labels).await? == Swap::Won {
                // What the old holder still sends is older than what it saw.
                return self.fence(&ours).await;
            }
        }
        Err(StepError::temporary("the lock changes hands all the time").remedy("try again"))
    }

    fn lock_labels(&self, operation: &str, now: Timestamp) -> HashMap<String, String> {
        let lease = SignedDuration::try_from(self.0.lease).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(lease).unwrap_or(Timestamp::MAX);
        let who = format!("process {} on `{}`", std::process::id(), ops_core::host::hostname());
        let labels = [
            (APPLICATION, self.0.application.clone()),
            (OPERATION, operation.to_owned()),
            (WHO, who),
            (SINCE, now.to_string()),
            (UNTIL, until.to_string()),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Gives the lock back, also one that a manager is only about to make: it goes on with what a
    /// deployer that has died asked for. So the name is taken once more, and what has it is given back.
    pub(super) async fn retract_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let (name, ours) = (self.lock_name(), cx.operation().to_string());
        if self.0.engine.config(&name).await?.is_none() {
            let labels = self.lock_labels(&ours, self.0.engine.now().await?);
            self.0.engine.create_config(&name, labels).await?;
        }
        self.release_lock(cx).await
    }

    /// Whether the lock is still this operation's.
    pub(super) async fn has_lock(&self, cx: &StepContext) -> Result<bool, Error> {
        let config = self.0.engine.config(&self.lock_name()).await?;
        Ok(config.is_some_and(|config| read(&config).operation == cx.operation().to_string()))
    }

    pub(super) async fn release_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let Some(config) = self.0.engine.config(&self.lock_name()).await? else { return Ok(()) };
        if read(&config).operation == cx.operation().to_string()
            && let Some(id) = &config.id
        {
            self.0.engine.remove_config(id).await?;
        }
        Ok(())
    }

    pub(super) async fn hold_lock(&self, cx: &StepContext) -> Result<(), StepError> {
        let error = Error::new(ErrorKind::Conflict, "the lock on the Swarm is lost");
        let reason = match self.0.engine.config(&self.lock_name()).await? {
            Some(config) => {
                let held = read(&config);
                if held.operation == cx.operation().to_string() {
                    return Ok(());
                }
                held.refusal()
            }
            None => Refusal::new(
                format!("the config object `{}` is gone", self.lock_name()),
                "see who removes config objects here, and try again",
            ),
        };
        Err(error.refusals([reason]).into())
    }
}
