//! The programs, run as a user runs them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod db_backup;
mod deployer;
mod git_sync;
mod quickstart;
mod small;
