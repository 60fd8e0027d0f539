//! How a line looks: what is written is redacted first, then escaped.

mod escape;
mod fields;
mod human;
mod json;

use std::borrow::Cow;
use std::sync::Arc;

use ops_core::Redactor;
use tracing::Level;

pub(crate) use fields::{Fields, Value};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// `2026-11-21T05:47:24.123456Z  INFO request{id=7}: app::web: answered status=200`
    #[default]
    Human,
    /// One object a line:
    /// `{"timestamp":..,"level":"INFO","target":..,"message":..,"fields":{..},"spans":[..]}`
    Json,
}

/// A value longer than this many bytes is cut.
const VALUE_CAP: usize = 32 * 1024;

/// Values that come after this many bytes of a line are left out.
const LINE_CAP: usize = 1024 * 1024;

/// What a line says.
pub(crate) struct Line<'a> {
    pub(crate) at: &'a str,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) fields: &'a Fields,
    /// From the root to the innermost.
    pub(crate) spans: &'a [(&'static str, Arc<Fields>)],
}

/// A format with the secrets that it must not show.
#[derive(Debug, Clone)]
pub(crate) struct Formatter {
    pub(crate) format: Format,
    pub(crate) redactor: Redactor,
}

impl Formatter {
    /// Appends the line with its line break, the only one in it.
    pub(crate) fn write(&self, out: &mut String, line: &Line<'_>) {
        match self.format {
            Format::Human => human::write(self, out, line),
            Format::Json => json::write(self, out, line),
        }
        out.push('\n');
    }

    /// What may be shown of a text. Redacted before it is cut, so that no half of a secret stays.
    fn shown<'t>(&self, text: &'t str, line_so_far: usize) -> Cow<'t, str> {
        if line_so_far > LINE_CAP {
            return Cow::Borrowed("[cut]");
        }
        let mut text = self.redactor.redacted(text);
        // `?value` and JSON inside of a value escape what a secret may contain.
        if text.contains('\\') {
            let plain = escape::undone(&text);
            if self.redactor.finds_in(&plain) {
                text = Cow::Owned(self.redactor.redact(&plain));
            }
        }
        if text.len() <= VALUE_CAP {
            return text;
        }
        let end = text.floor_char_boundary(VALUE_CAP);
        Cow::Owned(format!("{}[cut {} bytes]", &text[..end], text.len() - end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, fields: &Fields, spans: &[(&'static str, Arc<Fields>)]) -> String {
        let formatter = Formatter { format, redactor: Redactor::default() };
        let mut out = String::new();
        let at = "2026-11-21T00:00:00.000000Z";
        formatter.write(&mut out, &Line { at, level: Level::INFO, target: "app", fields, spans });
        out
    }

    fn fields(pairs: &[(&'static str, Value)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.set(name, value.clone());
        }
        fields
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn both_formats_of_the_same_event() {
        let event = fields(&[
            ("message", text("answered")),
            ("status", Value::Plain("200".into())),
            ("path", text("/a b")),
        ]);
        let spans = [
            ("request", Arc::new(fields(&[("id", Value::Plain("7".into()))]))),
            ("query", Arc::new(Fields::default())),
        ];
        assert_eq!(
            line(Format::Human, &event, &spans),
            "2026-11-21T00:00:00.000000Z  INFO request{id=7}:query: app: answered status=200 \
             path=\"/a b\"\n"
        );
        assert_eq!(
            line(Format::Json, &event, &spans),
            concat!(
                r#"{"timestamp":"2026-11-21T00:00:00.000000Z","level":"INFO","target":"app","#,
                r#""message":"answered","fields":{"status":200,"path":"/a b"},"#,
                r#""spans":[{"name":"request","fields":{"id":7}},{"name":"query"}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn no_value_can_begin_a_line_or_move_a_cursor() {
        for evil in ["a\nb", "a\r\nb", "a\x1b[2Kb", "a\u{2028}b", "a\u{85}b", "a\u{202e}b", "\0"] {
            for format in [Format::Human, Format::Json] {
                let event = fields(&[("message", text(evil)), ("value", text(evil))]);
                let spans = [("span", Arc::new(fields(&[("value", text(evil))])))];
                let out = line(format, &event, &spans);
                let body = out.strip_suffix('\n').unwrap();
                assert!(!body.chars().any(escape::is_unsafe), "{format:?} {evil:?}: {out:?}");
                if format == Format::Json {
                    let json: serde_json::Value = serde_json::from_str(body).unwrap();
                    assert_eq!(json["message"], *evil, "the escape is reversible");
                    assert_eq!(json["spans"][0]["fields"]["value"], *evil);
                }
            }
        }
    }

    #[test]
    fn a_long_value_and_a_long_line_are_cut() {
        let long = "é".repeat(VALUE_CAP);
        let out = line(Format::Human, &fields(&[("message", text(&long))]), &[]);
        assert!(out.ends_with(&format!("[cut {VALUE_CAP} bytes]\n")), "{}", out.len());
        let many: Vec<_> =
            (0..100).map(|_| ("span", Arc::new(fields(&[("value", text(&long))])))).collect();
        let out = line(Format::Json, &Fields::default(), &many);
        assert!(out.len() < LINE_CAP + 2 * VALUE_CAP);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["spans"][99]["fields"]["value"], "[cut]");
    }
}
