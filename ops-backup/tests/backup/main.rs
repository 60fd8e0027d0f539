//! Backups, restores, prunes and drills, on real files and stores.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod drill;
mod fixture;
#[cfg(feature = "postgres")]
mod postgres;
mod prune;
mod round_trip;
mod store;
mod traps;
