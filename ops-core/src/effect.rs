//! What a step does to the world.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a step reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Nothing is changed; there is nothing to undo.
    Reads,
    /// A change that can be undone.
    Changes,
    /// A change whose finisher closes the way back, or that takes something away for good.
    Destroys,
    /// A change that is meant to stay when the operation goes back, because it harms nothing and
    /// undoing it would: fetched objects, a finished backup.
    Retained,
}

/// What a step does, for the plan, the approver and the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Effect {
    /// How far it reaches.
    pub kind: EffectKind,
    /// What it does, as a phrase with the names of things: ``move branch `main` to 1a2b3c4``.
    pub what: String,
}

impl Effect {
    /// Looks and changes nothing.
    pub fn reads(what: impl Into<String>) -> Self {
        Self { kind: EffectKind::Reads, what: what.into() }
    }

    /// Changes what can be put back.
    pub fn changes(what: impl Into<String>) -> Self {
        Self { kind: EffectKind::Changes, what: what.into() }
    }

    /// Takes something away for good.
    pub fn destroys(what: impl Into<String>) -> Self {
        Self { kind: EffectKind::Destroys, what: what.into() }
    }

    /// Adds what stays even when the operation goes back.
    pub fn retained(what: impl Into<String>) -> Self {
        Self { kind: EffectKind::Retained, what: what.into() }
    }
}

impl fmt::Display for EffectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reads => "reads",
            Self::Changes => "changes",
            Self::Destroys => "destroys",
            Self::Retained => "stays",
        })
    }
}
