//! Replaces secrets in texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::search::Search;
use super::{REDACTED, Secret};

/// Replaces secrets by `[redacted]`. Clones share the secrets, also those that are added later.
///
/// Adding a secret costs some time for all that are known; looking for them costs about one pass
/// over the text, however many they are.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Arc<Search>>>);

impl Redactor {
    /// Adds a secret. One that is empty, or known already, is ignored.
    pub fn add(&self, secret: &Secret) {
        if secret.expose().is_empty() {
            return;
        }
        let mut search = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if search.secrets.contains(secret) {
            return;
        }
        let mut secrets = search.secrets.clone();
        secrets.push(secret.clone());
        *search = Arc::new(Search::new(secrets));
    }

    /// The text without secrets, and without the password of any `scheme://user:password@host`,
    /// known or not.
    pub fn redact(&self, text: &str) -> String {
        self.redacted(text).into_owned()
    }

    /// Like [`redact`](Self::redact), but a text without secrets is not copied.
    pub fn redacted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redacted_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// Like [`redacted`](Self::redacted), for output that need not be UTF-8.
    pub fn redacted_bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let spans = self.search().spans(text, None);
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut shown = Vec::with_capacity(text.len());
        let mut at = 0;
        for span in spans {
            shown.extend_from_slice(&text[at..span.start]);
            shown.extend_from_slice(REDACTED.as_bytes());
            at = span.end;
        }
        shown.extend_from_slice(&text[at..]);
        Cow::Owned(shown)
    }

    /// Whether a known secret stands in the text, in any of its forms.
    pub fn finds_in(&self, text: &str) -> bool {
        self.search().finds(text.as_bytes())
    }

    pub(super) fn search(&self) -> Arc<Search> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.search().secrets.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn knows(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for secret in secrets {
            redactor.add(&Secret::new(*secret));
        }
        redactor
    }

    #[track_caller]
    fn check(secrets: &[&str], text: &str, expected: &str) {
        let redactor = knows(secrets);
        assert_eq!(redactor.redact(text), expected);
        assert_eq!(redactor.redact(expected), expected, "a second time changes nothing");
        assert!(!redactor.finds_in(expected));
    }

    #[test]
    fn every_form_is_replaced_once() {
        let canary = "c4n \"q\"/\u{e9}\\?";
        let json = serde_json::json!({ "k": canary }).to_string();
        check(&[canary], &format!("a {canary} b"), "a [redacted] b");
        check(&[canary], &json, "{\"k\":\"[redacted]\"}");
        let twice = serde_json::json!([json]).to_string();
        check(&[canary], &twice, "[\"{\\\"k\\\":\\\"[redacted]\\\"}\"]");
        check(&[canary], &format!("{canary:?}"), "\"[redacted]\"");
        for encoded in [
            "c4n%20%22q%22%2F%C3%A9%5C%3F",
            "c4n%20%22q%22/%c3%a9%5c%3f",
            "c4n+%22q%22%2F%C3%A9%5C%3F",
            "%634n%20\"q\"%2f\u{e9}\\?",
        ] {
            check(&[canary], &format!("100%&q={encoded}&x"), "100%&q=[redacted]&x");
            assert!(knows(&[canary]).finds_in(encoded), "{encoded}");
        }
    }

    #[test]
    fn an_encoded_secret_behind_a_percent_sign_is_replaced() {
        check(&["aa/%"], "aa/%aa%2F%25", "[redacted][redacted]");
        check(&["aa/%"], "aa/%aa%2F%25aa%2F%25 b", "[redacted][redacted][redacted] b");
        check(&["aa\\\u{e9}"], "100%aa%5C%C3%A9", "100%[redacted]");
        check(&["a/bc"], "%fa%2Fbc %aa%2fbc", "%f[redacted] %a[redacted]");
        check(&["aaaa/"], "%aaaaa%2F", "%a[redacted]");
    }

    #[test]
    fn base64_is_replaced_wherever_the_secret_stands_in_it() {
        // `ops:hunter2-and-more`, `x:hunter2-and-more`, `xy:hunter2-and-more!`, by `base64`. The
        // characters beside it go too: they may hold some of its bits.
        let hunter = &["hunter2-and-more"];
        check(hunter, "Basic b3BzOmh1bnRlcjItYW5kLW1vcmU=", "Basic b3BzO[redacted]=");
        check(hunter, "eDpodW50ZXIyLWFuZC1tb3Jl", "eD[redacted]");
        check(hunter, "\"eHk6aHVudGVyMi1hbmQtbW9yZSE=\"", "\"eHk[redacted]E=\"");
    }

    #[test]
    fn overlapping_secrets_leave_no_half() {
        check(&["abcdef", "defghi"], "-abcdefghi-", "-[redacted]-");
        check(&["abcd", "abcdef"], "abcdef abcd", "[redacted] [redacted]");
        check(&["aaaa"], "aaaaaaaaa", "[redacted]");
        check(&["abcd"], "abcdabcd", "[redacted][redacted]");
    }

    #[test]
    fn short_secrets_are_found_between_borders() {
        check(&["ab"], "ab cab abc (ab) ab", "[redacted] cab abc ([redacted]) [redacted]");
        check(&["ab", "hunter2"], "hunter2ab abc", "[redacted][redacted] abc");
        check(&["\u{e9}"], "caf\u{e9}, \u{e9}", "caf\u{e9}, [redacted]");
        check(&[""], "nothing", "nothing");
    }

    #[test]
    fn passwords_in_urls_are_replaced_even_if_unknown() {
        check(&[], "postgres://u:p%40ss@h:5432/db", "postgres://u:[redacted]@h:5432/db");
        check(
            &[],
            "redis://:pw@h/0, amqp://a:b:c@d@h",
            "redis://:[redacted]@h/0, amqp://a:[redacted]@h",
        );
        for harmless in
            ["ssh://git@host/x", "http://h:80/a@b", "://u:p@h", "a:// u:p@h", "https://u:@h"]
        {
            check(&[], harmless, harmless);
        }
        assert!(!knows(&[]).finds_in("postgres://u:p@h"), "only known secrets are found");
    }

    #[test]
    fn a_key_is_found_line_by_line() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n";
        check(&[key], "error at `AQEFAASCBKcwggSjAgEAAoIB`", "error at `[redacted]`");
        check(&[key], &format!("<{key}>"), "<[redacted]>");
    }

    #[test]
    fn clones_share_and_debug_tells_nothing() {
        let redactor = Redactor::default();
        let clone = redactor.clone();
        redactor.add(&Secret::new("hunter2"));
        redactor.add(&Secret::new("hunter2"));
        assert!(clone.finds_in("xhunter2x"));
        assert_eq!(format!("{clone:?}"), "Redactor { secrets: 1 }");
    }

    proptest! {
        #[test]
        fn no_secret_is_left(
            secrets in prop::collection::vec("[a-d\"\\\\ %+/\u{e9}\n]{4,12}", 1..4),
            pieces in prop::collection::vec((0..6_u8, any::<prop::sample::Index>(), "[a-d\" %:/@]{0,6}"), 0..8),
        ) {
            let redactor = Redactor::default();
            let mut text = String::new();
            for secret in &secrets {
                redactor.add(&Secret::new(secret.as_str()));
            }
            for (form, which, between) in &pieces {
                let secret = &secrets[which.index(secrets.len())];
                text.push_str(between);
                match form {
                    0 => text.push_str(secret),
                    1 => text.push_str(&serde_json::Value::from(secret.as_str()).to_string()),
                    2 => write!(text, "{secret:?}").unwrap(),
                    3 => text.extend(url::form_urlencoded::byte_serialize(secret.as_bytes())),
                    4 => text.extend(secret.bytes().map(|byte| format!("%{byte:02x}"))),
                    _ => write!(text, "u://x:{secret}@h").unwrap(),
                }
            }
            let shown = redactor.redact(&text);
            prop_assert!(!redactor.finds_in(&shown), "{text:?} -> {shown:?}");
            for secret in &secrets {
                prop_assert!(!shown.contains(secret.as_str()), "{text:?} -> {shown:?}");
            }
            prop_assert_eq!(redactor.finds_in(&text), !pieces.is_empty());
        }
    }
}
