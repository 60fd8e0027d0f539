//! Names of tags.

use std::fmt;
use std::str::FromStr;

use gix::refs::FullName;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// The short name of a tag, such as `v1.2.3` or `recovery/20261121T101500Z-1a2b3c4`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagName(String);

impl TagName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn full(&self) -> FullName {
        FullName::try_from(format!("refs/tags/{}", self.0)).expect("checked when it was made")
    }
}

impl FromStr for TagName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let short = text.strip_prefix("refs/tags/").unwrap_or(text);
        let refuse = || {
            Error::new(ErrorKind::InvalidInput, format!("`{}` is no tag name", text.escape_debug()))
                .remedy("give a name that `git check-ref-format` accepts, such as `v1.2.3`")
        };
        if short.is_empty() || short.starts_with('-') || short == "HEAD" {
            return Err(refuse());
        }
        FullName::try_from(format!("refs/tags/{short}")).map_err(|e| refuse().caused_by(e))?;
        Ok(Self(short.to_owned()))
    }
}

impl TryFrom<String> for TagName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TagName> for String {
    fn from(name: TagName) -> Self {
        name.0
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_names_are_checked_at_the_edge() {
        for good in ["v1", "recovery/20261121T101500Z-1a2b3c4", "refs/tags/v1"] {
            assert!(good.parse::<TagName>().is_ok(), "{good}");
        }
        for bad in ["", "-d", "a..b", "a b", "HEAD", "x.lock", "/a", "a/", "a~1", "a:b"] {
            assert!(bad.parse::<TagName>().is_err(), "{bad}");
        }
    }
}
