//! What was in service when: a durable record.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use ops_core::Version;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

const SCHEMA: u32 = 1;
/// Older entries are forgotten.
const MOST: usize = 1000;

/// How a version came into service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// It was deployed.
    Deploy,
    /// It was gone back to.
    Rollback,
    /// It was found, when the record was missing.
    Observed,
}

impl Verb {
    /// The verb as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Observed => "observed",
        }
    }

    /// The verb that is written so.
    #[cfg(feature = "docker")]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Deploy, Self::Rollback, Self::Observed];
        all.into_iter().find(|verb| verb.as_str() == text)
    }
}

/// One version that came into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The version.
    pub version: Version,
    /// How it came.
    pub verb: Verb,
    /// The operation, in whose journal and report the rest stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// When it was recorded, just before the commit.
    pub at: Timestamp,
    /// Which image each service ran, where services are containers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// The migration that came with it and after which no earlier version can run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_way_back: Option<String>,
}

impl Entry {
    pub(crate) fn new(version: Version, verb: Verb, at: Timestamp) -> Self {
        Self { version, verb, operation: None, at, images: BTreeMap::new(), closes_way_back: None }
    }
}

/// What was in service when, oldest first; the last 1000 entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(pub(crate) Vec<Entry>);

#[derive(Serialize, Deserialize)]
struct Written {
    schema: u32,
    entries: Vec<Entry>,
}

impl History {
    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The version that came into service last.
    pub fn latest(&self) -> Option<&Version> {
        self.0.last().map(|entry| &entry.version)
    }

    /// The way back: the version in service first, then the one to which a rollback goes, and so
    /// on. A version that was rolled back from is not on it, so going back twice never goes
    /// forward to what was sick.
    pub fn way_back(&self) -> Vec<&Version> {
        let mut way: Vec<&Version> = Vec::new();
        for entry in &self.0 {
            let version = &entry.version;
            if entry.verb == Verb::Rollback {
                // To a version that is not on the way: what was in service is left all the same.
                let at = way.iter().rposition(|known| *known == version);
                way.truncate(at.unwrap_or(way.len().saturating_sub(1)));
            }
            way.retain(|known| *known != version);
            way.push(version);
        }
        way.reverse();
        way
    }

    /// The version and the migration that close the way back to a version, if any do.
    pub(crate) fn closed_since(&self, version: &Version) -> Option<(&Version, &str)> {
        let since =
            self.0.iter().rposition(|entry| entry.version == *version).map_or(0, |at| at + 1);
        self.0[since..]
            .iter()
            .rev()
            .find_map(|entry| Some((&entry.version, entry.closes_way_back.as_deref()?)))
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
        let excess = self.0.len().saturating_sub(MOST);
        self.0.drain(..excess);
    }

    /// The record; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let damaged = |error: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, format!("the history `{}` is damaged", path.display()))
                .remedy("remove it: it is rebuilt from what is observed")
                .caused_by(error)
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        if let Some(schema) = value["schema"].as_u64().filter(|found| *found > u64::from(SCHEMA)) {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!("the history `{}` was written by a newer program", path.display()),
            )
            .with("schema", schema)
            .with("known", SCHEMA)
            .remedy("run the newer program"));
        }
        let written: Written = serde_json::from_value(value).map_err(damaged)?;
        Ok(Some(Self(written.entries)))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let written = Written { schema: SCHEMA, entries: self.0.clone() };
        let mut bytes = serde_json::to_vec_pretty(&written).expect("it is made of JSON values");
        bytes.push(b'\n');
        Ok(ops_core::fs::atomic_write(path, &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(text: &str) -> History {
        let entries = text.split_whitespace().map(|word| {
            let (verb, name) = match word.strip_prefix('<') {
                Some(name) => (Verb::Rollback, name),
                None => (Verb::Deploy, word),
            };
            Entry::new(name.parse().unwrap(), verb, Timestamp::UNIX_EPOCH)
        });
        History(entries.collect())
    }

    #[test]
    fn the_way_back_never_leads_to_what_was_left_for_being_sick() {
        for (events, way) in [
            ("", ""),
            ("v1", "v1"),
            ("v1 v2 v3", "v3 v2 v1"),
            ("v1 v2 v3 <v2", "v2 v1"),
            ("v1 v2 v3 <v2 <v1", "v1"),
            ("v1 v2 v3 <v1", "v1"),
            ("v1 v2 <v1 v3", "v3 v1"),
            ("v1 v2 <v1 v2", "v2 v1"),
            ("v1 v2 v1", "v1 v2"),
            ("v1 v2 <v0", "v0 v1"),
            ("v2 v3 <v2 <v1", "v1"),
        ] {
            let history = history(events);
            let found: Vec<_> = history.way_back().iter().map(|v| v.as_str()).collect();
            assert_eq!(found.join(" "), way, "after {events}");
        }
    }

    #[test]
    fn the_first_format_is_still_read_and_newer_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        assert_eq!(History::read(&path).unwrap(), None);
        let golden = r#"{
  "schema": 1,
  "entries": [
    {
      "version": "1a2b3c4",
      "verb": "observed",
      "at": "1970-01-01T00:00:00Z"
    },
    {
      "version": "v2",
      "verb": "deploy",
      "operation": "01JD2Q5W3V8Y7K6M4N9P0R1S2T",
      "at": "2026-11-21T06:00:00Z"
    }
  ]
}
"#;
        std::fs::write(&path, golden).unwrap();
        let history = History::read(&path).unwrap().unwrap();
        history.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), golden);

        // What containers add to it.
        let images = golden.replace(
            "\"at\": \"2026-11-21T06:00:00Z\"\n",
            "\"at\": \"2026-11-21T06:00:00Z\",\n      \"images\": {\n        \"web\": \"sha256:1\"\n      \
             },\n      \"closes_way_back\": \"schema\"\n",
        );
        std::fs::write(&path, &images).unwrap();
        let history = History::read(&path).unwrap().unwrap();
        assert_eq!(history.entries()[1].images["web"], "sha256:1");
        assert_eq!(history.entries()[1].closes_way_back.as_deref(), Some("schema"));
        history.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), images);

        std::fs::write(&path, r#"{"schema": 2, "other": []}"#).unwrap();
        assert_eq!(History::read(&path).unwrap_err().kind(), ErrorKind::Foreign);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(History::read(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
