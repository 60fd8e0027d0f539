//! What every target takes.

use std::time::Duration;

use ops_deploy::{Gate, Identity};
use ops_examples::Failure;
use serde::Deserialize;

use super::stages::Stages;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: Option<String>,
    json_field: Option<String>,
    header: Option<String>,
}

impl Health {
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (&self.json_field, &self.header) {
            (Some(_), Some(_)) => {
                let why = "`[health]` names both `json_field` and `header`; one says the version";
                Err(Failure::usage(why))
            }
            (Some(field), None) => Ok(Some(Identity::JsonField(field.clone()))),
            (None, Some(header)) => Ok(Some(Identity::Header(header.clone()))),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    consecutive: Option<u32>,
    deadline_seconds: Option<u64>,
}

impl GateConfig {
    pub fn gate(&self) -> Gate {
        let mut gate = Gate::default();
        gate.consecutive = self.consecutive.unwrap_or(gate.consecutive);
        if let Some(seconds) = self.deadline_seconds {
            gate.deadline = Duration::from_secs(seconds);
        }
        gate
    }
}

/// How long an operation may take: what is configured; else, with a watch, long enough for it.
pub fn deadline(seconds: Option<u64>, stages: &Stages, usual: Duration) -> Option<Duration> {
    let watched =
        stages.bake.as_ref().map(|bake| bake.lasts.saturating_mul(2).saturating_add(usual));
    seconds.map(Duration::from_secs).or(watched)
}

#[cfg(feature = "docker")]
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    ca: std::path::PathBuf,
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
}

/// An engine; the certificates are for those that are not reached in another way.
#[cfg(feature = "docker")]
pub fn engine_at(address: &str, tls: Option<&Tls>) -> ops_deploy::docker::EngineAddress {
    let engine = ops_deploy::docker::EngineAddress::from(address);
    match tls {
        Some(Tls { ca, certificate, key }) if address.starts_with("tcp:") => {
            engine.tls(ca, certificate, key)
        }
        _ => engine,
    }
}

/// What becomes of secrets that are not in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// They are refused: commands are about to run that need them.
    Needed,
    /// They are left out. Who looks, or goes back in an emergency, may not have them.
    IfThere,
}

impl Secrets {
    /// The values of these variables of this process; every one that is missing is named.
    pub fn read(self, names: &[String]) -> Result<Vec<(String, ops_core::Secret)>, Failure> {
        let found = |name: &String| std::env::var(name).ok().filter(|value| !value.is_empty());
        let missing: Vec<_> = names.iter().filter(|name| found(name).is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|name| format!("`{name}`")).collect();
        let missing = missing.join(", ");
        if !missing.is_empty() && self == Self::Needed {
            return Err(Failure::usage(format!(
                "the secrets {missing} are not in the environment; set them, and keep them out of the file",
            )));
        }
        if !missing.is_empty() {
            tracing::warn!(target: "ops", missing, "secrets are not in the environment; commands go without them");
        }
        let pairs = names.iter().filter_map(|name| Some((name.clone(), found(name)?)));
        Ok(pairs.map(|(name, value)| (name, ops_core::Secret::new(value))).collect())
    }
}
