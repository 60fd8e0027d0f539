//! Fetching: over every way, with every fault.

mod credentials;
mod faults;
mod http;
pub mod left;
mod refs;
mod rewritten;
mod shallow;
mod ssh;
