//! Names of commits and branches, between gix and the rest of the family.

use std::fmt;
use std::str::FromStr;

use gix::refs::FullName;
use ops_core::CommitId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

pub(crate) fn commit_id(id: gix::ObjectId) -> CommitId {
    id.to_string().parse().expect("gix writes object ids as lower-case hexadecimal digits")
}

pub(crate) fn object_id(commit: &CommitId) -> Result<gix::ObjectId, Error> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes()).map_err(|source| {
        Error::new(ErrorKind::InvalidInput, format!("`{commit}` is no commit id"))
            .remedy("give the 40 hexadecimal digits of a commit")
            .caused_by(source)
    })
}

/// The short name of a branch, such as `main` or `feature/login`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

impl BranchName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn full(&self) -> FullName {
        FullName::try_from(format!("refs/heads/{}", self.0)).expect("checked when it was made")
    }

    pub(crate) fn from_full(name: &gix::refs::FullNameRef) -> Option<Self> {
        std::str::from_utf8(name.as_bstr().strip_prefix(b"refs/heads/")?).ok()?.parse().ok()
    }
}

impl FromStr for BranchName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let short = text.strip_prefix("refs/heads/").unwrap_or(text);
        let refuse = || {
            Error::new(ErrorKind::InvalidInput, format!("`{text}` is no branch name"))
                .remedy("give a name that `git check-ref-format --branch` accepts, such as `main`")
        };
        if short.is_empty() || short.starts_with('-') || short == "HEAD" {
            return Err(refuse());
        }
        FullName::try_from(format!("refs/heads/{short}")).map_err(|e| refuse().caused_by(e))?;
        Ok(Self(short.to_owned()))
    }
}

impl TryFrom<String> for BranchName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<BranchName> for String {
    fn from(name: BranchName) -> Self {
        name.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_are_checked_at_the_edge() {
        for good in ["main", "feature/login", "refs/heads/main", "größe"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in ["", "-d", "a..b", "a b", "HEAD", "x.lock", "/a", "a/", "a~1", "a:b"] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }
}
