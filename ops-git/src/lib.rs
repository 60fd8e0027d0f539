//! Git for operations: pull and export as plans of reversible steps, on gix.

mod blocker;
mod branch;
mod error;
mod export;
mod fetch;
mod id;
mod inspect;
mod mirror;
mod path_bytes;
mod pull;
mod refs;
mod repository;
mod step;
mod versions;

pub use blocker::{Blocker, Inspection};
pub use error::{Error, ErrorKind};
pub use id::BranchName;
pub use path_bytes::PathBytes;
pub use pull::PullOptions;
pub use repository::GitRepository;
pub use step::GitStep;
pub use versions::VersionInfo;
