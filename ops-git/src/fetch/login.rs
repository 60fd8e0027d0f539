//! Answering a remote that asks who this is.

use std::net::IpAddr;
use std::sync::Arc;

use ops_core::Secret;
use reqwest::RequestBuilder;
use url::Url;

use super::credential_helpers::Helpers;
use super::link::Link;
use crate::credentials::{Credentials, Kind, Login};
use crate::error::{Error, ErrorKind};

/// What is sent to the remote, and where it came from.
pub(super) struct Answers {
    given: Option<Credentials>,
    helpers: Option<Helpers>,
    sent: Option<Sent>,
}

enum Sent {
    Basic(Login),
    Bearer(Secret),
}

impl Answers {
    pub(super) fn new(given: Option<Credentials>, helpers: Option<Helpers>) -> Self {
        Self { given, helpers, sent: None }
    }

    /// Adds what the remote accepted before, or is to see now.
    pub(super) fn put_on(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.sent {
            None => request,
            Some(Sent::Basic(login)) => {
                request.basic_auth(&login.user, Some(login.secret.expose()))
            }
            Some(Sent::Bearer(token)) => request.bearer_auth(token.expose()),
        }
    }

    /// The remote asks: finds the next thing to say, or why there is none.
    pub(super) fn asked(&mut self, link: &Arc<Link>, url: &Url) -> Result<(), Error> {
        let shown = shown(url);
        if self.sent.is_some() {
            self.settle(link, false);
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                format!("{shown} does not accept the credentials that it got"),
            )
            .remedy("give credentials that may read this repository, and that are not expired"));
        }
        if self.given.is_none() && self.helpers.is_none() {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                format!("{shown} asks who this is"),
            )
            .remedy(
                "give the repository `Credentials`, or set `credential.helper` or \
                 `http.extraHeader` in its configuration: nobody is asked",
            ));
        }
        if !is_private(url) {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                format!("{shown} asks who this is, and would hear it in clear text"),
            )
            .remedy("pull over https"));
        }
        self.sent = match &self.given {
            Some(given) => match given.kind() {
                Kind::Login(login) => Some(Sent::Basic(login.clone())),
                Kind::Bearer(token) => Some(Sent::Bearer(token.clone())),
                Kind::Ask(ask) => ask(&shown)?.map(Sent::Basic),
            },
            None => match &mut self.helpers {
                Some(helpers) => helpers.get(link)?.map(Sent::Basic),
                None => None,
            },
        };
        match &self.sent {
            Some(Sent::Basic(login)) => link.redactor.add(&login.secret),
            Some(Sent::Bearer(token)) => link.redactor.add(token),
            None => {
                return Err(Error::new(
                    ErrorKind::Unauthenticated,
                    format!("{shown} asks who this is, and no credential helper knows"),
                )
                .remedy("give the repository `Credentials`, or let a helper store the login"));
            }
        }
        Ok(())
    }

    /// The remote has said what it thinks of what it got.
    pub(super) fn settle(&mut self, link: &Arc<Link>, accepted: bool) {
        if let (Some(_), Some(helpers)) = (&self.sent, &mut self.helpers) {
            helpers.tell(link, accepted);
        }
    }

    /// Another host must not see what was meant for the first one.
    pub(super) fn forget(&mut self) {
        self.sent = None;
        self.given = None;
        self.helpers = None;
    }
}

/// Without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    // For some hosts it is a token.
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    let text = url.to_string();
    text.strip_suffix("/info/refs")
        .or(text.strip_suffix("/git-upload-pack"))
        .unwrap_or(&text)
        .into()
}

/// Whether nobody on the way can read what is sent there.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    url.scheme() == "https"
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_private_ways_only() {
        for (url, private) in [
            ("https://example.org/a.git", true),
            ("http://example.org/a.git", false),
            ("http://127.0.0.1:8080/a.git", true),
            ("http://[::1]/a.git", true),
            ("http://localhost/a.git", true),
            ("http://localhost.example.org/a.git", false),
        ] {
            assert_eq!(is_private(&url.parse().unwrap()), private, "{url}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_is_no_secret() {
        let url = "https://me:hunter2@h/a.git/info/refs?service=git-upload-pack".parse().unwrap();
        assert_eq!(shown(&url), "https://h/a.git");
    }
}
