//! Against real repositories, made by the git program at run time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(unreachable_pub, missing_docs, reason = "nobody else sees a test")]

#[path = "../programs/by_git.rs"]
mod by_git;
mod checkout;
mod contract;
mod crash;
mod export;
mod fetch;
mod fixture;
mod history;
mod inspect;
mod kill;
mod killed;
mod meddler;
mod merge_crash;
mod merge_random;
mod merge_rows;
mod merge_steps;
mod probe;
mod pull;
mod server;
mod steps;
mod unreadable;
mod versions;
