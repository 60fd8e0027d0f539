//! Deploy, roll back and switch traffic as journalled, reversible operations.

mod error;
pub mod proxy;
pub mod release;
pub mod service;
mod target;
mod traffic;

pub use error::{Error, ErrorKind};
pub use proxy::{ProxyClient, ProxyConfig, ReverseProxy};
pub use release::{Gate, ReleaseDirectory, ReleaseHealth};
pub use service::{Detached, Identity, ServiceManager, ServiceSpec};
pub use target::{Observed, Running, Target};
pub use traffic::{MemorySwitch, Pointer, TrafficSwitch, Upstream};
