//! Against real repositories, made by the git program at run time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(unreachable_pub, missing_docs, reason = "nobody else sees a test")]

mod checkout;
mod contract;
mod crash;
mod export;
mod fixture;
mod inspect;
mod pull;
mod server;
mod steps;
mod versions;
