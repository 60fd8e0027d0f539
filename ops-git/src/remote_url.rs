//! What may be shown of the URL of a remote.

use gix::url::Scheme;

/// The URL without what may be secret in it: no password; over http neither a user, which is a token
/// for some hosts, nor a query.
pub(crate) fn shown(url: &gix::Url) -> String {
    let mut url = url.clone();
    url.password = None;
    if matches!(url.scheme, Scheme::Http | Scheme::Https) {
        url.user = None;
        if let Some(at) = url.path.iter().position(|byte| matches!(byte, b'?' | b'#')) {
            url.path.truncate(at);
        }
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_is_no_secret() {
        for (url, text) in [
            ("https://me:hunter2@h/a.git", "https://h/a.git"),
            ("https://hunter2@h:8443/a.git", "https://h:8443/a.git"),
            ("http://h/a.git?token=hunter2", "http://h/a.git"),
            ("https://h/a.git#hunter2", "https://h/a.git"),
            ("ssh://git:hunter2@h/a.git", "ssh://git@h/a.git"),
            ("git@h:a.git", "git@h:a.git"),
            ("/srv/a.git", "/srv/a.git"),
        ] {
            assert_eq!(shown(&gix::url::parse(url).unwrap()), text, "{url}");
        }
    }
}
