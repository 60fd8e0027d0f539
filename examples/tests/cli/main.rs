//! The programs, run as a user runs them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod db_backup;
mod deployer;
#[cfg(feature = "docker")]
mod deployer_docker;
mod deployer_provider;
mod documents;
mod git_sync;
mod ops_proxy;
#[path = "../../../ops-backup/tests/qdrant/server.rs"]
mod qdrant_server;
mod quickstart;
mod signals;
mod small;
