//! Who commits and tags.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A name and an address, as they stand in commits and tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    name: String,
    email: String,
}

impl Identity {
    /// A name and an address.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if one is empty or holds what git keeps for itself: `<`, `>`, a
    /// line's end or a NUL.
    pub fn new(name: impl Into<String>, email: impl Into<String>) -> Result<Self, Error> {
        let (name, email) = (name.into().trim().to_owned(), email.into().trim().to_owned());
        for (what, value) in [("name", &name), ("address", &email)] {
            if value.is_empty() || value.contains(['<', '>', '\n', '\r', '\0']) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("`{}` is no {what} of a committer", value.escape_debug()),
                )
                .remedy("give a name and an address such as `Ops` and `ops@example.org`"));
            }
        }
        Ok(Self { name, email })
    }

    /// The committer that the repository's configuration names.
    pub(crate) fn configured(repo: &gix::Repository) -> Result<Self, Error> {
        let config = repo.config_snapshot();
        let value = |what: &str| {
            [format!("committer.{what}"), format!("user.{what}")]
                .iter()
                .find_map(|key| config.string(key.as_str()))
                .map(|value| value.to_string())
        };
        match (value("name"), value("email")) {
            (Some(name), Some(email)) => Self::new(name, email),
            _ => Err(Error::new(ErrorKind::NoIdentity, "nobody is named who commits here").remedy(
                "set `user.name` and `user.email` in the repository's own configuration (the \
                 user's is not read), or give an identity",
            )),
        }
    }

    /// The line of a commit or tag that says who did it when. The zone is UTC.
    pub(crate) fn at(&self, seconds: i64) -> gix::actor::Signature {
        gix::actor::Signature {
            name: self.name.as_str().into(),
            email: self.email.as_str().into(),
            time: gix::date::Time::new(seconds, 0),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

/// A message as git keeps it: no white space at its end but one line's end.
pub(crate) fn cleaned(message: &str) -> Result<String, Error> {
    let message = message.trim();
    if message.is_empty() || message.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidInput, "the message is empty or holds a NUL")
            .remedy("give a message of at least one line"));
    }
    Ok(format!("{message}\n"))
}

/// Commits know seconds.
pub(crate) fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_commit_is_refused() {
        let ops = Identity::new(" Ops ", "ops@example.org").unwrap();
        assert_eq!(ops.to_string(), "Ops <ops@example.org>");
        for (name, email) in [("", "a@b"), ("a", ""), ("a\nb", "a@b"), ("a", "<a@b>")] {
            assert!(Identity::new(name, email).is_err(), "{name:?} {email:?}");
        }
        assert_eq!(cleaned(" Subject\n\nBody\n\n").unwrap(), "Subject\n\nBody\n");
        assert!(cleaned(" \n").is_err());
    }
}
