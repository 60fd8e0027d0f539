//! The version vocabulary that git and deploy share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The full id of a commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// One version of an application: the first 7 digits of a commit id, or a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl CommitId {
    /// The version that this commit is.
    pub fn version(&self) -> Version {
        Version(self.0[..7].to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! stub {
    ($($t:ident)+) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl FromStr for $t {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> { Ok(Self(text.to_owned())) }
        }
        impl TryFrom<String> for $t {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> { text.parse() }
        }
        impl From<$t> for String {
            fn from(v: $t) -> Self { v.0 }
        }
    )+};
}
stub!(CommitId Version);
