//! Probes: whether backups are made, and whether they can be restored.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::time::Duration;
//! use ops_backup::{BackupAge, Vault};
//! use ops_core::probe::{Health, Probe as _};
//!
//! let vault = Vault::open_url("memory:").await?;
//! let probe = BackupAge::new(vault, "nightly", Duration::from_hours(26))?;
//! assert!(matches!(probe.check().await, Health::Unhealthy { .. }), "there is no backup");
//! # Ok::<(), ops_backup::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use jiff::{SignedDuration, Timestamp};
use ops_core::probe::{Health, Probe};

use crate::attest::Attestation;
use crate::error::{Error, ErrorKind};
use crate::manifest::SetName;
use crate::vault::Vault;

/// Clocks of two machines may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Healthy if the newest listed backup of a set was begun no longer ago than a limit.
///
/// A set without a backup is unhealthy, and so is one whose newest manifest is damaged. If the
/// store does not answer, or the newest backup is from the future, it is unknown.
#[derive(Debug, Clone)]
pub struct BackupAge {
    name: String,
    vault: Vault,
    set: SetName,
    max: Duration,
}

impl BackupAge {
    /// The newest backup of this set may be as old as `max`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the set's name is none.
    pub fn new(vault: Vault, set: &str, max: Duration) -> Result<Self, Error> {
        Ok(Self { name: format!("backup age of {set}"), vault, set: set.parse()?, max })
    }

    async fn ask(&self) -> Result<Health, Error> {
        let Some(newest) = self.vault.latest(self.set.as_ref()).await? else {
            return Ok(Health::unhealthy(format!("set `{}` has no backup", self.set)));
        };
        let what = format!("backup {} of set `{}`", newest.id, self.set);
        Ok(young(&what, newest.created_at, self.max, self.vault.clock.now()))
    }
}

impl Probe for BackupAge {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async { answer(self.ask().await) }.boxed()
    }
}

/// Healthy if a drill restored a backup of the set no longer ago than a limit, and the newest
/// drill found nothing wrong.
///
/// A set of which no restore was ever proven is unhealthy. If the store does not answer, it is
/// unknown.
#[derive(Debug, Clone)]
pub struct LastProvenRestore {
    name: String,
    vault: Vault,
    set: SetName,
    max: Duration,
}

impl LastProvenRestore {
    /// The last proof may be as old as `max`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the set's name is none.
    pub fn new(vault: Vault, set: &str, max: Duration) -> Result<Self, Error> {
        Ok(Self { name: format!("last proven restore of {set}"), vault, set: set.parse()?, max })
    }

    async fn ask(&self) -> Result<Health, Error> {
        let Some(newest) = self.vault.repository.newest_drill(&self.set, |_| true).await? else {
            let reason = format!("no restore of set `{}` was ever proven; run a drill", self.set);
            return Ok(Health::unhealthy(reason));
        };
        let Attestation { at, backup, whole, .. } = newest;
        if !whole {
            let reason = format!("the drill of {at} found backup {backup} damaged");
            return Ok(Health::unhealthy(reason));
        }
        let what = format!("the last drill of set `{}`", self.set);
        Ok(young(&what, at, self.max, self.vault.clock.now()))
    }
}

impl Probe for LastProvenRestore {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async { answer(self.ask().await) }.boxed()
    }
}

fn young(what: &str, at: Timestamp, max: Duration, now: Timestamp) -> Health {
    let age = now.duration_since(at);
    if age < -SKEW {
        return Health::unknown(format!("{what} is of {at}, which is in the future"));
    }
    let max = SignedDuration::try_from(max).unwrap_or(SignedDuration::MAX);
    if age > max {
        return Health::unhealthy(format!("{what} is {age:#} old, {max:#} at most is expected"));
    }
    Health::Healthy
}

fn answer(asked: Result<Health, Error>) -> Health {
    asked.unwrap_or_else(|error| {
        let reason = ops_core::error::chain(&error).join(": ");
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Tampered => Health::unhealthy(reason),
            _ => Health::unknown(reason),
        }
    })
}
