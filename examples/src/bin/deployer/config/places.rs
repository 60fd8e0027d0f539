//! Where in its file a configuration says what.

use std::ops::Range;

use ops_core::Refusal;
use ops_examples::Failure;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where each key of a file stands.
#[derive(Debug, Default)]
pub struct Places(Vec<Place>);

#[derive(Debug)]
struct Place {
    /// `docker.service.image`: the names of tables and keys, without the numbers of arrays.
    key: String,
    /// The text that stands there, if it is one.
    text: Option<String>,
    line: usize,
}

/// Words of refusals, and the key that is meant by them.
const MEANT: [(&str, &str); 6] = [
    ("health path", "health.path"),
    ("health field", "health.json_field"),
    ("command that deploys", "deploy"),
    ("command that goes back", "rollback"),
    ("command that takes out", "remove"),
    ("required file", "required_files"),
];

/// Words that mean a key, where nothing else tells which.
const PERHAPS_MEANT: [(&str, &str); 7] = [
    ("public address", "public_url"),
    ("watch", "bake"),
    ("gate", "gate"),
    ("rehearsal", "migration"),
    ("deadline", "deadline_seconds"),
    ("no service", "service"),
    ("application", "application"),
];

impl Places {
    /// The places of a file that can be read.
    pub fn of(text: &str) -> Self {
        let mut places = Self::default();
        if let Ok(table) = DeTable::parse(text) {
            places.add_table("", table.get_ref(), text);
        }
        // The order of the file, for arrays of tables too.
        places.0.sort_by_key(|place| place.line);
        places
    }

    fn add_table(&mut self, above: &str, table: &DeTable<'_>, text: &str) {
        for (key, value) in table {
            let dot = if above.is_empty() { "" } else { "." };
            let path = format!("{above}{dot}{}", key.get_ref());
            self.0.push(Place { key: path.clone(), text: None, line: line_of(text, &key.span()) });
            self.add_value(&path, value, text);
        }
    }

    fn add_value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, text: &str) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(path, table, text),
            DeValue::Array(values) => {
                for value in values {
                    self.add_value(path, value, text);
                }
            }
            DeValue::String(found) => {
                let (key, line) = (path.to_owned(), line_of(text, &value.span()));
                self.0.push(Place { key, text: Some(found.to_string()), line });
            }
            _ => {}
        }
    }

    /// The place that a refusal is about: the key that its words mean or that it names, or else the
    /// last text of the file that it repeats.
    fn of_refusal(&self, reason: &str) -> Option<&Place> {
        let named: Vec<&str> = reason.split('`').skip(1).step_by(2).collect();
        let keys = named.iter().filter_map(|name| self.key(name));
        let texts = named
            .iter()
            .rev()
            .filter_map(|name| self.0.iter().find(|place| place.text.as_deref() == Some(*name)));
        let meant = |all: &'static [(&str, &str)]| {
            let meant = all.iter().filter(|(words, _)| reason.contains(words));
            meant.filter_map(|(_, key)| self.key(key))
        };
        meant(&MEANT).chain(keys).chain(texts).chain(meant(&PERHAPS_MEANT)).next()
    }

    /// A key by its whole path, or by the end of it.
    fn key(&self, name: &str) -> Option<&Place> {
        let name = name.trim_matches(['[', ']']);
        let whole = self.0.iter().find(|place| place.key == name);
        whole.or_else(|| {
            let ends = |place: &&Place| {
                place.key.strip_suffix(name).is_some_and(|above| above.ends_with('.'))
            };
            self.0.iter().find(ends)
        })
    }

    /// What speaks against a configuration, each with its line and key.
    pub fn refuse(&self, file: &str, mut failure: Failure) -> Failure {
        let located = |reason: &str| match self.of_refusal(reason) {
            Some(Place { key, line, .. }) => format!("`{file}`, line {line}, `{key}`: {reason}"),
            None => format!("`{file}`: {reason}"),
        };
        if failure.reasons().is_empty() {
            let said = failure.to_string();
            return Failure::new(failure.code(), located(&said));
        }
        let reasons = failure.reasons().iter();
        let reasons: Vec<_> =
            reasons.map(|it| Refusal::new(located(&it.reason), &it.remedy)).collect();
        let lines = reasons.iter().map(|it| format!("{}; {}", it.reason, it.remedy));
        failure = Failure::new(failure.code(), lines.collect::<Vec<_>>().join("\n"));
        failure.with_reasons(reasons)
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1
}

/// What is not TOML, or not what a key takes: with line, column and key, but without the line itself,
/// in which there may be a secret.
pub fn unreadable(file: &str, text: &str, error: &toml::de::Error) -> Failure {
    let said = error.message().trim().replace('\n', ", ");
    let Some(span) = error.span() else { return Failure::usage(format!("`{file}`: {said}")) };
    let line = line_of(text, &span);
    let before = text.get(..span.start).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let found = text.lines().nth(line - 1).unwrap_or_default();
    let key = found.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let key = match key {
        "" => String::new(),
        key if key.chars().all(plain) => format!(", `{key}`"),
        _ => String::new(),
    };
    Failure::usage(format!("`{file}`, line {line}, column {column}{key}: {said}"))
}
