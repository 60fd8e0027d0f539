//! What the example programs share: how they begin and end, ask for approval and show progress,
//! and the small application that the quickstart takes through its life.
//!
//! A tool of your own starts from one of the programs in `src/bin`; the files here are meant to be
//! copied along.

pub mod approve_at_terminal;
pub mod bars;
pub mod failure;
pub mod guestbook;
pub mod managed_app;
pub mod printed;
pub mod program;
pub mod upstream;

pub use failure::{Code, Failure};

/// The examples of the README are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
