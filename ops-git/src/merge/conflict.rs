//! Why two histories do not go together by themselves.

use std::fmt;

use ops_core::Refusal;
use serde::{Deserialize, Serialize};

use crate::path_bytes::PathBytes;

/// What both sides did to a path that cannot both be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConflictKind {
    /// Both changed the same lines of a file, or of a file that is not text anything.
    BothModified,
    /// Both added a file here, with different content.
    BothAdded,
    /// One changed it, the other took it away.
    ModifiedDeleted,
    /// Both renamed it, to different names.
    RenamedTwice,
    /// One renamed it, the other took it away.
    RenamedDeleted,
    /// One renamed a file to a name that the other gave to something else.
    RenamedOnto,
    /// One added it to a directory that the other renamed, or seems to have renamed.
    DirectoryRenamed,
    /// A file on one side, a directory on the other.
    DirectoryFile,
    /// Both changed the mode, differently.
    Mode,
    /// A file, a symbolic link or a submodule on one side, and another of these on the other.
    Type,
    /// Both pointed a symbolic link elsewhere.
    SymbolicLink,
    /// Both moved a submodule to different commits.
    Submodule,
}

impl ConflictKind {
    /// What happened, as a phrase.
    fn phrase(self) -> &'static str {
        match self {
            Self::BothModified => "changed on both sides",
            Self::BothAdded => "added on both sides with different content",
            Self::ModifiedDeleted => "changed on one side and deleted on the other",
            Self::RenamedTwice => "renamed to different names",
            Self::RenamedDeleted => "renamed on one side and deleted on the other",
            Self::RenamedOnto => "the target of a rename, and something else on the other side",
            Self::DirectoryRenamed => "added to a directory that the other side renamed",
            Self::DirectoryFile => "a file on one side and a directory on the other",
            Self::Mode => "given different modes",
            Self::Type => "of another type on each side",
            Self::SymbolicLink => "a symbolic link that both sides pointed elsewhere",
            Self::Submodule => "a submodule that both sides moved",
        }
    }
}

/// One version of a path in a conflict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stage {
    /// Where this version lies; in renames it differs between the stages.
    pub path: PathBytes,
    /// The mode as git writes it, such as `0o100644`.
    pub mode: u16,
    /// The id of the blob, or of a submodule's commit, in hexadecimal digits.
    pub id: String,
}

/// One thing that both sides changed and that cannot both be kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conflict {
    /// The path that it is about.
    pub path: PathBytes,
    /// What happened.
    pub kind: ConflictKind,
    /// The version that both come from, ours, and theirs, where there is one.
    pub stages: [Option<Stage>; 3],
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}", self.path, self.kind.phrase())?;
        let mut names: Vec<_> = self.stages.iter().flatten().map(|stage| &stage.path).collect();
        names.sort();
        names.dedup();
        names.retain(|name| **name != self.path);
        for (i, name) in names.iter().enumerate() {
            write!(f, "{}`{name}`", if i == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

impl From<&Conflict> for Refusal {
    fn from(conflict: &Conflict) -> Self {
        Self::new(
            conflict.to_string(),
            "merge it by hand in a work tree with `git merge`, then pull the result",
        )
    }
}

/// Why a merge without a conflict is refused all the same: what git would make of it is not known
/// for sure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Caution {
    /// The histories crossed: they have several merge bases, which do not go together here.
    CrissCross {
        /// A path that depends on the choice; none if the whole does.
        path: Option<PathBytes>,
    },
    /// Whether a file was renamed, and to which name, is too close to call.
    RenameUnclear {
        /// The file's old name.
        path: PathBytes,
        /// Names that it may have now.
        candidates: Vec<PathBytes>,
    },
    /// Which lines belong together is too close to call: two ways to compare the files merge them
    /// differently.
    LinesUnclear {
        /// The file.
        path: PathBytes,
    },
    /// An attribute asks for a merge program that this repository configures.
    ExternalDriver {
        /// The file.
        path: PathBytes,
        /// The driver's name.
        driver: String,
    },
    /// The repository's configuration asks for what is not supported here.
    Configured {
        /// The key and its value.
        setting: String,
    },
    /// More than is looked at.
    TooLarge {
        /// What is.
        what: String,
    },
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrissCross { path: Some(path) } => {
                write!(f, "the histories have several merge bases, which differ in `{path}`")
            }
            Self::CrissCross { path: None } => {
                write!(f, "the histories have several merge bases, which do not go together")
            }
            Self::RenameUnclear { path, candidates } => {
                write!(f, "whether `{path}` was renamed is too close to call")?;
                for (i, name) in candidates.iter().take(5).enumerate() {
                    write!(f, "{}`{name}`", if i == 0 { ": it may be " } else { " or " })?;
                }
                Ok(())
            }
            Self::LinesUnclear { path } => {
                write!(f, "which lines of `{path}` belong together is too close to call")
            }
            Self::ExternalDriver { path, driver } => {
                write!(f, "`{path}` is merged by the external driver `{driver}`")
            }
            Self::Configured { setting } => {
                write!(f, "the configuration `{setting}` is not supported")
            }
            Self::TooLarge { what } => f.write_str(what),
        }
    }
}

impl From<&Caution> for Refusal {
    fn from(caution: &Caution) -> Self {
        let remedy = match caution {
            Caution::Configured { .. } => "take it away, or merge by hand with `git merge`",
            _ => "merge by hand in a work tree with `git merge`, look at it, then pull the result",
        };
        Self::new(caution.to_string(), remedy)
    }
}
