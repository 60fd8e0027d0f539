//! How targets are set up: the setters that several of their builders have, and what is checked.

use std::path::PathBuf;
#[cfg(feature = "docker")]
use std::time::Duration;

use ops_core::Refusal;

use crate::error::{Error, ErrorKind};
use crate::gate::Gate;

/// Setters of a builder whose settings are `self.0`, in one wording for all targets.
macro_rules! setters {
    (versions) => {
        /// Which tags are versions. Default: the first 7 digits of a commit id. `latest` never is.
        pub fn versions(mut self, policy: ops_core::version::VersionPolicy) -> Self {
            self.0.policy = policy;
            self
        }
    };
    (gate: $when:literal) => {
        #[doc = $when]
        pub fn gate(mut self, gate: crate::gate::Gate) -> Self {
            self.0.gate = gate;
            self
        }
    };
    (guard) => {
        /// Adds a probe that must be healthy, too, in the same rounds as the gate. Journals know it
        /// by its name. Default: none.
        pub fn guard(mut self, guard: impl ops_core::probe::Probe + 'static) -> Self {
            self.0.guards.push(std::sync::Arc::new(guard));
            self
        }
    };
    (keep: $what:literal) => {
        #[doc = $what]
        pub fn keep(mut self, versions: usize) -> Self {
            self.0.keep = versions;
            self
        }
    };
    (keep_previous_warm: $what:literal) => {
        #[doc = $what]
        pub fn keep_previous_warm(mut self, keep: bool) -> Self {
            self.0.keep_warm = keep;
            self
        }
    };
    (stages) => {
        /// What must hold before an operation changes anything, besides what always must.
        pub fn preflight(mut self, preflight: crate::preflight::Preflight) -> Self {
            self.0.stages.preflight = Some(preflight);
            self
        }

        /// Adds a command between two stages, of deployments and rollbacks alike. In an emergency
        /// only those run that come after the commit.
        pub fn hook(mut self, when: crate::stages::When, hook: crate::stages::Hook) -> Self {
            self.0.stages.hooks.push((when, hook));
            self
        }

        /// What migrates the schema before a deployment starts anything new. Default: nothing.
        pub fn migration(mut self, migration: crate::stages::Migration) -> Self {
            self.0.stages.migration = Some(migration);
            self
        }

        /// How the new version is watched before the commit. The operation's
        /// [`deadline`](Self::deadline) must leave time for it. Default: not at all.
        pub fn bake(mut self, bake: crate::stages::Bake) -> Self {
            self.0.stages.bake = Some(bake);
            self
        }
    };
    (drain: $what:literal) => {
        #[doc = $what]
        pub fn drain(mut self, drain: std::time::Duration) -> Self {
            self.0.drain = drain;
            self
        }
    };
    (deadline: $default:literal) => {
        #[doc = concat!("How long an operation may take until its commit. Default: ", $default, ".")]
        pub fn deadline(mut self, deadline: std::time::Duration) -> Self {
            self.0.deadline = deadline;
            self
        }
    };
    (lock_lease: $default:literal) => {
        /// After how long the lock of a deployer that died may be taken over, by the engine's
        /// clock. It must be longer than an operation with its way back.
        #[doc = concat!("Default: ", $default, ".")]
        pub fn lock_lease(mut self, lease: std::time::Duration) -> Self {
            self.0.lease = lease;
            self
        }
    };
}
pub(crate) use setters;

/// Every reason why settings have no meaning.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Vec<Refusal>);

impl Reasons {
    pub fn add(&mut self, reason: impl Into<String>, remedy: &str) {
        self.0.push(Refusal::new(reason.into(), remedy));
    }

    pub fn extend(&mut self, refusals: impl IntoIterator<Item = Refusal>) {
        self.0.extend(refusals);
    }

    /// The folder must be there; it is named as it is, without links.
    pub fn folder(&mut self, called: &str, folder: &mut PathBuf, give: &str) {
        match folder.canonicalize() {
            Ok(found) if found.is_dir() => *folder = found,
            Ok(found) => self.add(format!("`{}` is no folder", found.display()), give),
            Err(error) => {
                let folder = folder.display();
                self.add(format!("the {called} `{folder}` cannot be had: {error}"), "create it");
            }
        }
    }

    pub fn gate(&mut self, gate: &Gate) {
        if gate.consecutive == 0 {
            self.add("a gate of no answers lets everything pass", "ask for at least one");
        }
    }

    #[cfg(feature = "docker")]
    pub fn services(&mut self, count: usize) {
        if count == 0 {
            self.add("there is no service", "add at least one");
        }
    }

    #[cfg(feature = "docker")]
    pub fn lease(&mut self, lease: Duration, deadline: Duration) {
        if lease <= deadline {
            self.add(
                "the lock could be taken over while its operation runs",
                "make its lease longer than the deadline, by the time that going back takes",
            );
        }
    }

    /// Whether there is none.
    pub fn none(self, target: &str) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let error = format!("{target} is not set up well");
        Err(Error::new(ErrorKind::InvalidConfig, error).refusals(self.0))
    }
}
