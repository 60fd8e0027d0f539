//! Names and texts as SQL.

/// A name, quoted where it must be, so that equal names give equal texts.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name within a schema, quoted.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A name within a schema as a person writes it: quoted only where it must be.
pub(super) fn readable(schema: &str, name: &str) -> String {
    let plain = |name: &str| {
        let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if first && name.chars().all(rest) { name.to_owned() } else { ident(name) }
    };
    format!("{}.{}", plain(schema), plain(name))
}

/// A text. Sessions of ours have `standard_conforming_strings` on.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
