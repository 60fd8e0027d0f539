//! Deploy, roll back and switch traffic as journalled, reversible operations.

mod error;
pub mod proxy;
pub mod service;
mod traffic;

pub use error::{Error, ErrorKind};
pub use traffic::{MemorySwitch, Pointer, TrafficSwitch, Upstream};
