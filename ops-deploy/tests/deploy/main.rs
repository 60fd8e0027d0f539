//! Deployments of a real service, behind the real proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]

mod cleanup;
mod composition;
mod crash;
mod detached;
mod emergency;
mod faults;
mod guards;
mod http2;
mod pipeline;
mod provider;
mod proxy;
mod proxy_dies;
#[path = "../programs/site.rs"]
mod site;
mod stage;
mod tunnel;
mod wire;
