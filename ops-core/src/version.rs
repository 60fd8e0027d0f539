//! The version vocabulary that git and deploy share.
//!
//! ```
//! use ops_core::{CommitId, Version};
//!
//! let commit: CommitId = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".parse()?;
//! assert_eq!(commit.version().as_str(), "1a2b3c4");
//! assert!("v1.4.2".parse::<Version>().is_ok());
//! assert!("../../etc".parse::<Version>().is_err());
//! # Ok::<(), ops_core::Error>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

const SHORT: usize = 7;
const TAG_MAX: usize = 128;

/// The full id of a commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The version that this commit is: its first 7 digits.
    pub fn version(&self) -> Version {
        Version(self.0[..SHORT].to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One version of an application: the first 7 digits of a commit id, or a tag.
///
/// A tag begins with a letter or digit, goes on with those and `.`, `_`, `-`, has at most 128
/// characters, and is safe as the name of a file, of a git tag and of an image's tag alike: no
/// `..`, and no `.` or `.lock` at its end. Seven lower-case hexadecimal digits are always a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The version that a commit is: its first 7 digits.
    pub fn of(commit: &CommitId) -> Self {
        commit.version()
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the beginning of a commit id, and no tag.
    pub fn is_sha(&self) -> bool {
        self.0.len() == SHORT && is_hex(&self.0)
    }
}

/// What may be a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VersionPolicy {
    /// Only the first 7 digits of a commit id. The default: such a version cannot be moved.
    #[default]
    ShaOnly,
    /// Those, or a tag.
    ShaOrTag,
}

impl VersionPolicy {
    /// Reads a version that this policy allows.
    ///
    /// # Errors
    ///
    /// When the text is no version, or a tag where only commits are allowed.
    pub fn parse(self, text: &str) -> Result<Version, Error> {
        let version: Version = text.parse()?;
        if self == Self::ShaOnly && !version.is_sha() {
            return Err(invalid(format!("`{text}` is a tag, and only commits are versions here"))
                .remedy(SHA_REMEDY));
        }
        Ok(version)
    }
}

/// The one commit that this version names, out of all that there are; `None` if there is none.
///
/// # Errors
///
/// When the version is a tag, which only its repository can resolve; or when two commits begin
/// with these digits: both are named.
pub fn find_unique(
    prefix: &Version,
    commits: impl IntoIterator<Item = CommitId>,
) -> Result<Option<CommitId>, Error> {
    if !prefix.is_sha() {
        return Err(invalid(format!("`{prefix}` is a tag, and no beginning of a commit id"))
            .remedy(SHA_REMEDY));
    }
    let mut found: Option<CommitId> = None;
    for commit in commits.into_iter().filter(|commit| commit.0.starts_with(&prefix.0)) {
        match &found {
            Some(first) if *first != commit => {
                return Err(invalid(format!(
                    "version `{prefix}` is ambiguous: commits `{first}` and `{commit}` begin with it"
                ))
                .remedy("release another commit: a new one, even an empty one, has other digits"));
            }
            _ => found = Some(commit),
        }
    }
    Ok(found)
}

const SHA_REMEDY: &str = "give the first 7 digits of the commit, such as 1a2b3c4";

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As much of a refused text as a message bears, without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

impl FromStr for CommitId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if matches!(text.len(), 40 | 64) && is_hex(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(invalid(format!("`{}` is no commit id", shown(text)))
            .remedy("a commit id has 40 or 64 lower-case hexadecimal digits"))
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |remedy: &str| {
            Err(invalid(format!("`{}` is no version", shown(text))).remedy(remedy.to_owned()))
        };
        let mut bytes = text.bytes();
        if !bytes.next().is_some_and(|first| first.is_ascii_alphanumeric()) {
            return refuse("a version begins with a letter or a digit");
        }
        if !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return refuse("a version has only letters, digits, `.`, `_` and `-`");
        }
        if text.len() > TAG_MAX {
            return refuse("a version has at most 128 characters");
        }
        let lock = text.get(text.len().saturating_sub(5)..).unwrap_or_default();
        if text.contains("..") || text.ends_with('.') || lock.eq_ignore_ascii_case(".lock") {
            return refuse("a version has no `..`, and neither `.` nor `.lock` at its end");
        }
        if matches!(text.len(), 40 | 64) && is_hex(text) {
            return refuse("this is a whole commit id; its version is its first 7 digits");
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )+};
}
as_text!(CommitId, Version);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_or_refused() {
        let check = |text: &str, expected: Option<bool>| {
            let read = text.parse::<Version>();
            assert_eq!(read.as_ref().ok().map(Version::is_sha), expected, "{text}: {read:?}");
        };
        check("1a2b3c4", Some(true));
        check("1A2B3C4", Some(false));
        check("1a2b3c", Some(false));
        check("v1.4.2", Some(false));
        check("2026-11-21_rc.1", Some(false));
        check("20261121", Some(false));
        check(&"v".repeat(128), Some(false));
        check(&"v".repeat(129), None);
        check(&"a".repeat(40), None);
        for refused in [
            "", ".", "..", "-rf", "-", "_x", ".hidden", "a/b", "../etc", "a..b", "a.", "a.lock",
            "A.LOCK", "a b", "a\nb", "a\0", "a:b", "a\\b", "~", "ä", "v1.ä", "a@{1}", "$(id)",
            "a*",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn the_policy_says_whether_a_tag_will_do() {
        assert!(VersionPolicy::ShaOnly.parse("1a2b3c4").is_ok());
        assert!(VersionPolicy::ShaOrTag.parse("v1.4.2").is_ok());
        let error = VersionPolicy::default().parse("v1.4.2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`v1.4.2` is a tag, and only commits are versions here; \
             give the first 7 digits of the commit, such as 1a2b3c4"
        );
    }

    #[test]
    fn two_commits_that_share_seven_digits_are_both_named() {
        let commit = |end: &str| -> CommitId { format!("1a2b3c4{end:0>33}").parse().unwrap() };
        let other: CommitId = "f".repeat(40).parse().unwrap();
        let version: Version = "1a2b3c4".parse().unwrap();
        let find = |commits: &[CommitId]| find_unique(&version, commits.iter().cloned());
        assert_eq!(find(std::slice::from_ref(&other)).unwrap(), None);
        assert_eq!(find(&[other, commit("1"), commit("1")]).unwrap(), Some(commit("1")));
        let error = find(&[commit("1"), commit("2")]).unwrap_err().to_string();
        assert!(error.contains(commit("1").as_str()), "{error}");
        assert!(error.contains(commit("2").as_str()), "{error}");
        assert!(find_unique(&"v1".parse().unwrap(), []).is_err());
    }

    #[test]
    fn what_is_refused_as_text_is_refused_as_json() {
        assert!(serde_json::from_str::<Version>("\"../x\"").is_err());
        assert!(serde_json::from_str::<CommitId>("\"1a2b3c4\"").is_err());
        let error = "1A".parse::<CommitId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`1A` is no commit id; a commit id has 40 or 64 lower-case hexadecimal digits"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back_the_same(text in "\\PC{0,140}|[A-Za-z0-9._/-]{0,140}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.as_str(), &text);
                let json = serde_json::to_string(&version).unwrap();
                prop_assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), version);
            }
        }

        #[test]
        fn a_version_is_always_one_plain_name(text in "[A-Za-z0-9._/\\\\ -]{1,20}") {
            if text.parse::<Version>().is_ok() {
                let path = std::path::Path::new("/srv/releases").join(&text);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/srv/releases")));
                prop_assert!(path.file_name().is_some_and(|name| *name == *text));
                prop_assert!(!text.starts_with('-'));
            }
        }

        #[test]
        fn every_commit_has_a_version_that_finds_it(text in "[0-9a-f]{40}|[0-9a-f]{64}") {
            let commit: CommitId = text.parse().unwrap();
            let version = Version::of(&commit);
            prop_assert!(version.is_sha());
            prop_assert_eq!(version.as_str().parse::<Version>().unwrap(), version.clone());
            prop_assert_eq!(find_unique(&version, [commit.clone()]).unwrap(), Some(commit));
        }

        #[test]
        fn no_text_is_both_a_commit_id_and_a_version(text in "[0-9a-f]{0,70}") {
            prop_assert!(text.parse::<CommitId>().is_err() || text.parse::<Version>().is_err());
        }
    }
}
