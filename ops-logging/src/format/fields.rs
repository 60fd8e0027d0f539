//! The values of an event or a span, as they were recorded.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Words: quoted in JSON.
    Text(String),
    /// A number or a truth value: not quoted.
    Plain(String),
}

/// The values by name, in the order in which they were recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Sets what was recorded later.
    pub(crate) fn merge(&mut self, later: Self) {
        for (name, value) in later.0 {
            self.set(name, value);
        }
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == "message").map(|(_, value)| value.as_str())
    }

    /// All but the message.
    pub(super) fn others(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().filter(|(name, _)| *name != "message").map(|(name, value)| (*name, value))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// The real target of a record that came from the `log` crate; the fields that carry such
    /// things are taken out.
    pub(crate) fn take_bridged_target(&mut self) -> Option<String> {
        let at = self.0.iter().position(|(name, _)| *name == "log.target")?;
        let target = self.0.swap_remove(at).1;
        self.0.retain(|(name, _)| !name.starts_with("log."));
        Some(target.as_str().to_owned())
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.set(field.name(), Value::Plain(value.to_string()));
    }
}

impl Value {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Plain(text) => text,
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_err() {
            text.push_str("[cannot be formatted]");
        }
        self.set(field.name(), Value::Text(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field.name(), Value::Text(ops_core::error::chain(value).join(": ")));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            // JSON has no number for it.
            self.set(field.name(), Value::Text(value.to_string()));
        }
    }
}
