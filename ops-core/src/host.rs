//! Facts of the machine.

use serde::{Deserialize, Serialize};

/// The machine's load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostMetrics {}

impl HostMetrics {
    /// Measures; blocks for a moment.
    pub fn sample(_disk: &std::path::Path) -> Self {
        Self {}
    }
}

/// The machine's name.
pub fn hostname() -> String {
    String::new()
}

/// The name of the user that this process runs as.
pub fn user() -> String {
    String::new()
}
