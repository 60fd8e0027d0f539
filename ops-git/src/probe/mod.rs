//! Probes: whether a repository is as operations need it.

mod clean;

pub use clean::RepositoryClean;
