//! Backups, restores, prunes and drills, on real files and stores.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod drill;
mod encryption;
mod fixture;
mod prune;
mod reuse;
mod round_trip;
mod store;
mod traps;
