//! Facts of the machine: what it is, how loaded it is, and whether it has what an operation needs.
//!
//! ```
//! use ops_core::host::Requirements;
//!
//! let findings = Requirements::new()
//!     .free_disk("/", 1024)
//!     .free_memory(1024 * 1024)
//!     .program("sh")
//!     .check();
//! assert!(findings.is_empty(), "{findings:?}");
//! ```

mod facts;
mod load;
mod requirements;

pub use facts::{HostFacts, hostname, user};
pub use load::{HostMetrics, LoadSampler};
pub use requirements::Requirements;
