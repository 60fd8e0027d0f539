//! What is told.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use ops_core::{Environment, OperationId, Redactor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::alert_id::AlertId;

/// The format of alerts that this crate writes; a newer one is refused.
pub const ALERT_SCHEMA: u32 = 1;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look when there is time.
    Warning,
    /// Look today.
    High,
    /// Look now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// One thing that people should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    #[serde(deserialize_with = "known_schema")]
    schema: u32,
    /// Its name, the same however often it is sent.
    pub id: AlertId,
    /// How grave it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The rest, in as many lines as it takes.
    #[serde(default)]
    pub body: String,
    /// When it happened.
    pub at: Timestamp,
    /// Where it happened.
    pub environment: Environment,
    /// The operation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Facts for machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

fn known_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let schema = u32::deserialize(deserializer)?;
    if schema > ALERT_SCHEMA {
        let message =
            format!("an alert of format {schema}; this version reads up to {ALERT_SCHEMA}");
        return Err(serde::de::Error::custom(message));
    }
    Ok(schema)
}

impl Alert {
    /// A new alert of this moment with a name of its own.
    pub fn new(severity: Severity, title: impl Into<String>, environment: Environment) -> Self {
        Self {
            schema: ALERT_SCHEMA,
            id: AlertId::generate(),
            severity,
            title: title.into(),
            body: String::new(),
            at: Timestamp::now(),
            environment,
            operation: None,
            fields: BTreeMap::new(),
        }
    }

    /// Gives it a name that its sender can make again, such as after a restart.
    pub fn id(mut self, id: AlertId) -> Self {
        self.id = id;
        self
    }

    /// Says more than the title.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// When it happened.
    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    /// The operation that it is about.
    pub fn operation(mut self, operation: OperationId) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Adds a fact for machines.
    pub fn field(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.fields.insert(name.into(), value.to_string());
        self
    }

    /// The alert without secrets.
    pub fn redacted(&self, redactor: &Redactor) -> Self {
        let mut alert = self.clone();
        alert.title = redactor.redact(&self.title);
        alert.body = redactor.redact(&self.body);
        for value in alert.fields.values_mut() {
            *value = redactor.redact(value);
        }
        alert
    }

    /// The alert as JSON of at most so many bytes: the body is cut first, then the facts go, then
    /// the title is cut. `None` if there is no room even for the rest.
    pub fn to_json_within(&self, max_bytes: usize) -> Option<Vec<u8>> {
        let json = |alert: &Self| serde_json::to_vec(alert).ok();
        let fits = |bytes: &Vec<u8>| bytes.len() <= max_bytes;
        let whole = json(self)?;
        if fits(&whole) {
            return Some(whole);
        }
        let mut alert = self.clone();
        for room in
            std::iter::successors(Some(self.body.len()), |room| (*room > 0).then(|| room / 2))
        {
            // The halves meet the escapes, which are longer than what they stand for.
            alert.body = cut(&self.body, room);
            if let Some(bytes) = json(&alert).filter(fits) {
                return Some(bytes);
            }
        }
        alert.fields.clear();
        alert.title = cut(&self.title, 200);
        json(&alert).filter(fits).or_else(|| {
            alert.body.clear();
            alert.title = cut(&self.title, 40);
            json(&alert).filter(fits)
        })
    }
}

fn cut(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(room);
    format!("{}[cut {} bytes]", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_golden_and_a_newer_one_is_refused() {
        let golden = concat!(
            r#"{"schema":1,"id":"disk-1","severity":"critical","title":"full","body":"0 left","#,
            r#""at":"2026-11-21T00:00:00Z","environment":"staging","#,
            r#""operation":"01JD2Q5W3V8Y7K6M4N9P0R1S2T","fields":{"host":"db-1"}}"#
        );
        let alert = Alert::new(Severity::Critical, "full", Environment::Staging)
            .id("disk-1".parse().unwrap())
            .body("0 left")
            .at("2026-11-21T00:00:00Z".parse().unwrap())
            .operation("01JD2Q5W3V8Y7K6M4N9P0R1S2T".parse().unwrap())
            .field("host", "db-1");
        assert_eq!(serde_json::to_string(&alert).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Alert>(golden).unwrap(), alert);
        let newer = golden.replace("\"schema\":1", "\"schema\":2");
        let error = serde_json::from_str::<Alert>(&newer).unwrap_err();
        assert!(error.to_string().contains("format 2; this version reads up to 1"), "{error}");
        let no_id = golden.replace("disk-1", "disk 1");
        assert!(serde_json::from_str::<Alert>(&no_id).is_err());
    }

    #[test]
    fn an_alert_is_cut_to_fit_and_never_larger() {
        let alert = Alert::new(Severity::Info, "é".repeat(300), Environment::Production)
            .body("\u{1}".repeat(10_000))
            .field("much", "x".repeat(1000));
        for max in [100_000, 30_000, 2_000, 1_000, 400] {
            let json = alert.to_json_within(max).unwrap_or_else(|| panic!("{max}"));
            assert!(json.len() <= max);
            let read: Alert = serde_json::from_slice(&json).unwrap();
            assert_eq!(read.id, alert.id);
            assert_eq!(read == alert, max == 100_000);
        }
        assert_eq!(alert.to_json_within(50), None);
    }
}
