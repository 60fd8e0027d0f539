//! Lines for programs: one JSON object each.

use std::borrow::Cow;

use super::fields::Value;
use super::{Formatter, Line, escape};

pub(super) fn write(formatter: &Formatter, out: &mut String, line: &Line<'_>) {
    out.push_str("{\"timestamp\":");
    escape::json(out, line.at);
    out.push_str(",\"level\":");
    escape::json(out, line.level.as_str());
    out.push_str(",\"target\":");
    escape::json(out, line.target);
    if let Some(message) = line.fields.message() {
        out.push_str(",\"message\":");
        let shown = formatter.shown(message, out.len());
        escape::json(out, &shown);
    }
    object(formatter, out, line.fields.others());
    for (i, (name, fields)) in line.spans.iter().enumerate() {
        out.push_str(if i == 0 { ",\"spans\":[{\"name\":" } else { ",{\"name\":" });
        escape::json(out, name);
        object(formatter, out, fields.all());
        out.push('}');
    }
    if !line.spans.is_empty() {
        out.push(']');
    }
    out.push('}');
}

fn object<'v>(
    formatter: &Formatter,
    out: &mut String,
    fields: impl Iterator<Item = (&'static str, &'v Value)>,
) {
    let mut any = false;
    for (name, value) in fields {
        out.push_str(if any { "," } else { ",\"fields\":{" });
        any = true;
        escape::json(out, name);
        out.push(':');
        match (value, formatter.shown(value.as_str(), out.len())) {
            (Value::Plain(plain), Cow::Borrowed(shown)) if shown == plain => out.push_str(shown),
            (_, shown) => escape::json(out, &shown),
        }
    }
    if any {
        out.push('}');
    }
}
