//! Deployments of containers on a real Docker engine, behind the real proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]

#[path = "../shared/asking.rs"]
mod asking;
mod cleanup;
mod crash;
mod deploy;
#[path = "../programs/dock.rs"]
mod dock;
#[path = "../shared/dock_state.rs"]
mod dock_state;
mod dry_run;
mod engine;
mod engine_faults;
mod engine_restarts;
mod fault_socket;
mod faults;
mod hosts;
#[path = "../shared/images.rs"]
mod images;
#[path = "../shared/killed.rs"]
mod killed;
mod lock;
mod lossless;
mod observe;
#[path = "../shared/public.rs"]
mod public;
mod releases;
mod remote;
mod rollback;
mod secrets;
mod stage;
mod stages;
mod surroundings;
mod swarm;
#[path = "../programs/swarmed.rs"]
mod swarmed;
