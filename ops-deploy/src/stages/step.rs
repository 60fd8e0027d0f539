//! The stages as steps, the same for every target.

use ops_core::{Effect, Version};
use serde::{Deserialize, Serialize};

use super::hook::When;

/// A step that is the same on every target: a build, a command, a migration, a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StageStep {
    /// The machines have what is needed.
    Preflight {
        /// The version that comes.
        version: Version,
    },
    /// What the version consists of is made, if it is not there.
    Build {
        /// The version that comes.
        version: Version,
    },
    /// A command of one's own.
    Hook {
        /// Its name.
        name: String,
        /// Between which stages it runs.
        when: When,
        /// The version that comes.
        version: Version,
        /// Whether it has a command that takes its effect back.
        undoable: bool,
    },
    /// The migration says what it would do, and whether the old version could run afterwards.
    RehearseMigration {
        /// The version that comes.
        version: Version,
        /// Whether one after which it could not is allowed.
        allow_incompatible: bool,
    },
    /// The migration runs.
    Migrate {
        /// The version that comes.
        version: Version,
        /// Whether one after which the old version could not run is allowed.
        allow_incompatible: bool,
    },
    /// The new version is watched for a while.
    Bake {
        /// The version that comes.
        version: Version,
    },
}

impl StageStep {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Preflight { .. } => "preflight",
            Self::Build { .. } => "build",
            Self::Hook { .. } => "hook",
            Self::RehearseMigration { .. } => "rehearse_migration",
            Self::Migrate { .. } => "migrate",
            Self::Bake { .. } => "bake",
        }
    }

    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::Preflight { version } => {
                Effect::reads(format!("see that there is what {version} needs"))
            }
            Self::Build { version } => {
                Effect::retained(format!("build {version}, if it is not complete"))
            }
            Self::Hook { name, when: When::AfterCommit, .. } => {
                Effect::changes(format!("run the command `{name}`, until it succeeds"))
            }
            Self::Hook { name, undoable: true, .. } => {
                Effect::changes(format!("run the command `{name}`"))
            }
            Self::Hook { name, .. } => Effect::retained(format!("run the command `{name}`")),
            Self::RehearseMigration { version, allow_incompatible: false } => {
                Effect::reads(format!(
                    "rehearse the migration to {version}: the old version must be able to run after it"
                ))
            }
            Self::RehearseMigration { version, .. } => {
                Effect::reads(format!("rehearse the migration to {version}"))
            }
            Self::Migrate { version, allow_incompatible: false } => {
                Effect::retained(format!("migrate the schema to {version}"))
            }
            Self::Migrate { version, .. } => Effect::destroys(format!(
                "migrate the schema to {version}, even if that closes the way back"
            )),
            Self::Bake { version } => Effect::reads(format!("watch {version} for a while")),
        }
    }
}
