//! What a restored database is asked.

use serde::{Deserialize, Serialize};

/// A question that a restored database must answer with `true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlProbe {
    /// What is asked, for messages.
    pub name: String,
    /// A query whose first column of the first row is a boolean. It has a minute, and reads only.
    pub sql: String,
}

impl SqlProbe {
    /// A question.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: sql.into() }
    }
}
