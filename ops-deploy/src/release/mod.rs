//! Releases as folders: `releases/<version>`, a `current` symlink, and a service in front of which
//! the traffic moves.
//!
//! A deployment looks whether the state is what it was planned for, and whether the release is
//! complete; starts the new instance beside the old one; asks it, several times in a row, which
//! version it is; switches the traffic and the symlink; asks the public address; writes the
//! history; and commits. Only then does the old instance answer its last requests and end, and old
//! releases go. Going back is the same in reverse: the old instance was never stopped, and the new
//! one, too, answers what it has begun. A rollback is a deployment of an earlier version.

mod builder;
mod cleanup;
mod current;
mod directory;
mod gate;
mod health;
mod instance;
mod plan;
mod stages;
mod start;
mod status;
mod step;
mod switch;

pub use builder::ReleaseDirectoryBuilder;
pub use directory::ReleaseDirectory;
pub use health::ReleaseHealth;
pub use instance::Instance;
pub use status::Status;
pub use step::ReleaseStep;

pub use crate::gate::Gate;
pub use crate::history::{Entry, History, Verb};
