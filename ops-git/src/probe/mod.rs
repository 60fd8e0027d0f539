//! Probes: whether a repository is as operations need it.

mod behind;
mod clean;

pub use behind::BehindUpstream;
pub use clean::RepositoryClean;
