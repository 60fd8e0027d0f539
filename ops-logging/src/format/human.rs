//! Lines for people.

use std::fmt::Write as _;

use super::fields::Value;
use super::{Formatter, Line, escape};

pub(super) fn write(formatter: &Formatter, out: &mut String, line: &Line<'_>) {
    let _ = write!(out, "{} {:>5} ", line.at, line.level.as_str());
    for (i, (name, fields)) in line.spans.iter().enumerate() {
        if i > 0 {
            out.push(':');
        }
        escape::human(out, name);
        for (i, (name, value)) in fields.all().enumerate() {
            out.push(if i == 0 { '{' } else { ' ' });
            pair(formatter, out, name, value);
        }
        if fields.all().next().is_some() {
            out.push('}');
        }
    }
    if !line.spans.is_empty() {
        out.push_str(": ");
    }
    escape::human(out, line.target);
    out.push(':');
    if let Some(message) = line.fields.message() {
        out.push(' ');
        let shown = formatter.shown(message, out.len());
        escape::human(out, &shown);
    }
    for (name, value) in line.fields.others() {
        out.push(' ');
        pair(formatter, out, name, value);
    }
}

fn pair(formatter: &Formatter, out: &mut String, name: &str, value: &Value) {
    escape::human(out, name);
    out.push('=');
    let shown = formatter.shown(value.as_str(), out.len());
    escape::human_value(out, &shown);
}
