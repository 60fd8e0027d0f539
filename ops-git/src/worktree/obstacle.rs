//! What stands at a path in the way of another tree.

use std::fmt;

/// Why a path cannot become what another tree has there, without losing something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Obstacle {
    /// The file was changed since it was staged or checked out.
    LocalChange,
    /// The index holds a change that neither commit has.
    StagedChange,
    /// A staged path lies where the other commit has a folder, or in a folder where it has a file.
    StagedInTheWay,
    /// A file that git does not track.
    Untracked,
    /// A file that git ignores; it is in the way unless the options allow to overwrite it.
    Ignored,
    /// A folder with something of its own in it.
    Folder,
    /// A folder on the way is a link or a file.
    ParentIsNoFolder,
    /// A conflict that was not resolved.
    Unmerged,
    /// A submodule that is there would have to go.
    Submodule,
    /// The file system ignores case, and another path differs in case alone.
    CaseCollision {
        /// The other path.
        with: String,
    },
    /// The name must not be written to a disk.
    Hostile {
        /// Why.
        why: String,
    },
    /// A filter that is required has no command.
    FilterMissing {
        /// The filter's name.
        filter: String,
    },
    /// It lies on another file system than the repository, so it cannot be moved in one instant.
    OtherFileSystem,
    /// What is there cannot be told.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl Obstacle {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::LocalChange | Self::StagedChange | Self::StagedInTheWay => {
                "commit the changes, stash them, or take them away"
            }
            Self::Untracked | Self::Folder => "move it away, or add it and commit",
            Self::Ignored => "move it away, or allow ignored files to be overwritten",
            Self::ParentIsNoFolder => "make it a folder again, or move it away",
            Self::Unmerged => "resolve the conflict and commit, or abort the merge",
            Self::Submodule => "take its work tree away with `git submodule deinit`",
            Self::CaseCollision { .. } => "rename one of them in a commit of its own",
            Self::Hostile { .. } => "take it out of the tree, and check out that commit",
            Self::FilterMissing { .. } => {
                "configure its `smudge` or `process` command, or make it not required"
            }
            Self::OtherFileSystem => "keep the work tree and its repository on one file system",
            Self::Unreadable { .. } => "repair what is named, then try again",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalChange => f.write_str("local changes would be lost"),
            Self::StagedChange => f.write_str("staged changes would be lost"),
            Self::StagedInTheWay => f.write_str("staged paths are in the way"),
            Self::Untracked => f.write_str("untracked files are in the way"),
            Self::Ignored => f.write_str("ignored files are in the way"),
            Self::Folder => f.write_str("folders with untracked content are in the way"),
            Self::ParentIsNoFolder => f.write_str("a folder on the way is a link or a file"),
            Self::Unmerged => f.write_str("conflicts are not resolved"),
            Self::Submodule => f.write_str("a submodule is in the way"),
            Self::CaseCollision { with } => write!(f, "it differs from `{with}` in case alone"),
            Self::Hostile { why } => write!(f, "it {why}"),
            Self::FilterMissing { filter } => {
                write!(f, "the required filter `{filter}` has no command")
            }
            Self::OtherFileSystem => f.write_str("it lies on another file system"),
            Self::Unreadable { reason } => write!(f, "what is there cannot be told: {reason}"),
        }
    }
}
