//! Characters that must not reach a log as they are.

use std::fmt::Write as _;

/// Whether a character could end a line, steer a terminal or hide what follows it: the control
/// characters, the Unicode line and paragraph separators, and the marks that reorder text.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a text for people; everything unsafe becomes `\n` or `\u{1b}`.
pub(super) fn human(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

/// Appends a value for people, in quotes where it could be taken for something else.
pub(super) fn human_value(out: &mut String, text: &str) {
    let bare = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '{' | '}' | '\\');
    if !text.is_empty() && text.chars().all(bare) {
        return human(out, text);
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') || is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

/// Appends a JSON string with its quotes.
pub(super) fn json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Everything unsafe lies in the basic plane, so four digits hold it.
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The text before `Debug` or JSON escaped it, to look for secrets in; what is no escape stays.
pub(super) fn undone(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (c, after) = one(rest).unwrap_or(('\\', rest));
        out.push(c);
        rest = after;
    }
    out + rest
}

/// The character of one escape, and what follows it.
fn one(rest: &str) -> Option<(char, &str)> {
    let first = rest.chars().next()?;
    let after = &rest[first.len_utf8()..];
    let plain = match first {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        '"' | '\'' | '\\' | '/' => first,
        'u' => {
            let (hex, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => after.split_at_checked(4)?,
            };
            return Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after));
        }
        _ => return None,
    };
    Some((plain, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_escape_stays() {
        for (text, expected) in [
            (r"C:\Users\u", r"C:\Users\u"),
            (r"\u12", r"\u12"),
            (r"\u{110000}x", r"\u{110000}x"),
            (r"\u{1b}\u00e9", "\u{1b}é"),
            (r"end\", r"end\"),
            (r"\é", r"\é"),
        ] {
            assert_eq!(undone(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn debug_and_json_are_undone(text in any::<String>()) {
            let debug = format!("{text:?}");
            prop_assert_eq!(undone(&debug[1..debug.len() - 1]), text.as_str());
            let mut out = String::new();
            json(&mut out, &text);
            prop_assert_eq!(undone(&out[1..out.len() - 1]), text.as_str());
            let read: String = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
