//! Deployments of a real service, behind the real proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]

mod composition;
mod crash;
mod detached;
mod pipeline;
mod proxy;
#[path = "../programs/site.rs"]
mod site;
mod stage;
