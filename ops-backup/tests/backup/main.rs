//! Backups, restores, prunes and drills, on real files and stores.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod by_hand;
mod drill;
mod encryption;
#[path = "../programs/fault_rounds.rs"]
mod fault_rounds;
mod fixture;
mod interleaving;
mod limits;
#[cfg(feature = "postgres")]
mod postgres;
mod prune;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(feature = "qdrant")]
#[path = "../qdrant/server.rs"]
mod qdrant_server;
mod reuse;
mod round_trip;
#[cfg(feature = "s3")]
mod s3;
mod sources;
mod store;
mod traps;
mod undo;
