//! The forms in which programs print a secret.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A line of a secret with several lines is a secret of its own from this many characters on: keys
/// are printed line by line, and short lines say nothing.
const LINE: usize = 16;

/// Every form that is searched for as it stands. Percent-encoding is not among them: it has too
/// many mixtures, so the text is decoded instead.
pub(super) fn escaped(secret: &str) -> BTreeSet<String> {
    let mut forms = escaped_whole(secret);
    if secret.trim_end().contains('\n') {
        let lines = secret.lines().map(str::trim);
        for line in lines.filter(|line| line.chars().count() >= LINE && !line.starts_with("-----"))
        {
            forms.extend(escaped_whole(line));
        }
    }
    forms
}

fn escaped_whole(secret: &str) -> BTreeSet<String> {
    let json = json(secret);
    BTreeSet::from([
        secret.to_owned(),
        // As a form of a web page has it, once the rest is decoded.
        secret.replace(' ', "+"),
        json_ascii(secret),
        self::json(&json),
        json,
        unquoted(format!("{secret:?}")),
        secret.as_bytes().escape_ascii().to_string(),
    ])
}

fn json(text: &str) -> String {
    unquoted(serde_json::Value::from(text).to_string())
}

/// As programs do that write ASCII only.
fn json_ascii(text: &str) -> String {
    let mut ascii = String::new();
    for c in json(text).chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

fn unquoted(text: String) -> String {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .map(str::to_owned)
        .unwrap_or(text)
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What stands in base64 whatever comes before and after the secret: for each of the three places
/// within a group of bytes, the characters that depend on the secret alone.
pub(super) fn base64(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let bits = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0));
        let from = (before * 8).div_ceil(6);
        let to = bytes.len() * 8 / 6;
        for alphabet in [STANDARD, URL_SAFE] {
            let stable = (from..to).map(|i| {
                let (byte, shift) = (i * 6 / 8, i * 6 % 8);
                let pair = bits(byte) << 8 | bits(byte + 1);
                char::from(alphabet[(pair >> (10 - shift) & 63) as usize])
            });
            forms.insert(stable.collect());
        }
    }
    forms
}

/// Whether a byte is one of base64, in either alphabet.
pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_middle_of_base64() {
        // From `base64`: `foobar`, `-foobar-`, `--foobar--`.
        let forms = base64("foobar");
        for whole in ["Zm9vYmFy", "LWZvb2Jhci0=", "LS1mb29iYXItLQ=="] {
            assert!(forms.iter().any(|form| whole.contains(form.as_str())), "{whole}: {forms:?}");
        }
        assert_eq!(forms.len(), 3, "{forms:?}");
        assert!(base64("\u{3ff}?>~").iter().any(|form| form.contains('_') || form.contains('-')));
    }

    #[test]
    fn escaped_forms() {
        let forms = escaped("a\"b\\c \u{e9}\n");
        for form in [
            "a\"b\\c \u{e9}\n",
            "a\\\"b\\\\c \u{e9}\\n",
            "a\\\"b\\\\c \\u00e9\\n",
            "a\"b\\c+\u{e9}\n",
            "a\\\\\\\"b\\\\\\\\c \u{e9}\\\\n",
            "a\\\"b\\\\c \\xc3\\xa9\\n",
        ] {
            assert!(forms.contains(form), "{form}: {forms:#?}");
        }
        assert_eq!(escaped("plain").len(), 1);
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort=\n-----END KEY-----\n";
        let forms = escaped(key);
        assert!(forms.contains("MIIEvQIBADANBgkqhkiG9w0B"));
        assert!(!forms.contains("short=") && !forms.contains("-----BEGIN KEY-----"));
    }
}
