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
