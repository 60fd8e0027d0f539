//! The name of one operation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::{Error, ErrorKind};

/// The name of one operation: a ULID, so that names sort by time.
///
/// What a step creates derives its name from it, so that a second run finds it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(Ulid);

impl OperationId {
    /// A new name.
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }

    /// When it was made, to the millisecond.
    pub fn created(&self) -> jiff::Timestamp {
        let ms = i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ulid::from_string(text).map(Self).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, format!("`{text}` is no operation id"))
                .remedy("an operation id has 26 characters, such as 01JD2Q5W3V8Y7K6M4N9P0R1S2T")
                .caused_by(source)
        })
    }
}
