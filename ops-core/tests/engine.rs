//! What the engine promises, outcome by outcome.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[path = "engine/approval.rs"]
mod approval;
#[path = "engine/blocking.rs"]
mod blocking;
#[path = "engine/board.rs"]
mod board;
#[path = "engine/disk.rs"]
mod disk;
#[path = "engine/formats.rs"]
mod formats;
#[path = "engine/outcomes.rs"]
mod outcomes;
#[path = "engine/reporters.rs"]
mod reporters;
#[path = "engine/spans.rs"]
mod spans;
