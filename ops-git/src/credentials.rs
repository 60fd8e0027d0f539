//! Who this is, when a remote asks.

use std::fmt;
use std::sync::Arc;

use ops_core::Secret;

use crate::error::Error;

/// A user's name and secret for one remote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password or token.
    pub secret: Secret,
}

impl Login {
    /// A name and its password or token.
    pub fn new(user: impl Into<String>, secret: Secret) -> Self {
        Self { user: user.into(), secret }
    }
}

type Ask = dyn Fn(&str) -> Result<Option<Login>, Error> + Send + Sync;

/// What a repository answers when an http or https remote asks who this is.
///
/// ```
/// use ops_core::Secret;
/// use ops_git::{Credentials, GitRepository};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.git");
/// let token = Secret::new("read-only-token"); // or `Secret::from_env`, `Secret::from_file`
/// let app = GitRepository::mirror("https://example.org/app.git", path)?
///     .with_credentials(Credentials::token(token));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is sent only when the remote asks, only to the host of the remote's URL, and only over https;
/// over http only to this machine itself. It reaches no error, journal, fact or child process.
#[derive(Clone)]
pub struct Credentials(Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Login(Login),
    Bearer(Secret),
    Ask(Arc<Ask>),
}

impl Credentials {
    /// A token in the place of a password, as forges take it; its user is `x-access-token`.
    pub fn token(token: Secret) -> Self {
        Self::login("x-access-token", token)
    }

    /// A user and a password or token.
    pub fn login(user: impl Into<String>, secret: Secret) -> Self {
        Self(Kind::Login(Login::new(user, secret)))
    }

    /// A token that is sent as `Authorization: Bearer`.
    pub fn bearer(token: Secret) -> Self {
        Self(Kind::Bearer(token))
    }

    /// Asks this function for the login, with the remote's URL, on the thread of the fetch; `None`
    /// if it knows none. It returns soon: a deadline cannot end it.
    pub fn ask(ask: impl Fn(&str) -> Result<Option<Login>, Error> + Send + Sync + 'static) -> Self {
        Self(Kind::Ask(Arc::new(ask)))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Login(_) => "Credentials::login([redacted])",
            Kind::Bearer(_) => "Credentials::bearer([redacted])",
            Kind::Ask(_) => "Credentials::ask(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_shown() {
        let secret = || Secret::new("hunter2");
        for credentials in [
            Credentials::token(secret()),
            Credentials::bearer(secret()),
            Credentials::ask(move |_| Ok(Some(Login::new("me", Secret::new("hunter2"))))),
        ] {
            assert!(!format!("{credentials:?}").contains("hunter2"));
        }
        assert!(!format!("{:?}", Login::new("me", secret())).contains("hunter2"));
    }
}
