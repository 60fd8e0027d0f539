//! Deployments of a real service, behind the real proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]

#[path = "../shared/asking.rs"]
mod asking;
mod catalogue;
mod cleanup;
mod composition;
mod crash;
mod detached;
mod emergency;
mod faults;
mod formats;
mod guards;
mod handover;
mod http2;
#[path = "../shared/killed.rs"]
mod killed;
#[path = "../shared/load.rs"]
mod load;
mod odd_switch;
mod pipeline;
mod provider;
mod provider_stages;
mod proxy;
mod proxy_dies;
#[path = "../shared/public.rs"]
mod public;
#[path = "../programs/site.rs"]
mod site;
#[path = "../shared/site_state.rs"]
mod site_state;
mod stage;
mod stages;
mod standalone;
mod tunnel;
mod wire;
