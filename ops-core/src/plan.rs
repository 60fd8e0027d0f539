//! What an operation is going to do: a value that people read, approvers judge and journals keep.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::effect::{Effect, EffectKind};
use crate::error::{Error, ErrorKind};
use crate::resource::{Resource, ResourceId};
use crate::step::Step;
use crate::version::Version;

/// One step of a plan, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// What it acts on.
    pub resource: ResourceId,
    /// Whose step it is.
    pub family: String,
    /// Its short name.
    pub name: String,
    /// What it does.
    pub effect: Effect,
    /// The step itself, serialised.
    pub step: Value,
}

impl PlannedStep {
    fn new<R: Resource>(resource: &R, step: &R::Step) -> Result<Self, Error> {
        let id = resource.id();
        let refuse = |why: String| {
            Error::new(ErrorKind::Plan, format!("step `{}` cannot be planned: {why}", step.name()))
                .with("resource", &id)
                .with("family", R::Step::FAMILY)
        };
        let value = serde_json::to_value(step)
            .map_err(|e| refuse("it cannot be written as JSON".into()).caused_by(e))?;
        let back: R::Step = serde_json::from_value(value.clone())
            .map_err(|e| refuse("it cannot be read back from its JSON".into()).caused_by(e))?;
        if back != *step {
            return Err(refuse(
                "what is read back from its JSON is another value (a NaN, a nested option?)".into(),
            ));
        }
        Ok(Self {
            resource: id,
            family: R::Step::FAMILY.to_owned(),
            name: step.name().to_owned(),
            effect: step.effect(),
            step: value,
        })
    }
}

/// What an operation is going to do: changes that can be undone, then the commit, then finishers.
///
/// A plan is data without type parameters, so approvers and programs read any plan, and plans of
/// different crates join with [`then`](Self::then). Printing it is the dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is approved and run"]
#[non_exhaustive]
pub struct Plan {
    /// The version of this format.
    pub schema: u32,
    /// The operation's name, such as `deploy`.
    pub operation: String,
    /// The version that is in place after it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What a reader of the report wants to know besides: commits before and after, sizes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// How long the operation may take, until its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Undone in reverse order if one of them fails.
    pub changes: Vec<PlannedStep>,
    /// Repeated until they succeed, after the commit.
    pub finishers: Vec<PlannedStep>,
}

/// The format of plans that this crate writes.
pub const PLAN_SCHEMA: u32 = 1;

impl Plan {
    /// An empty plan of this name.
    pub fn new(operation: impl Into<String>) -> Self {
        Self {
            schema: PLAN_SCHEMA,
            operation: operation.into(),
            version: None,
            facts: BTreeMap::new(),
            deadline: None,
            changes: Vec::new(),
            finishers: Vec::new(),
        }
    }

    /// Adds a change: a step that is undone if a later one fails.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`] if the step does not survive its serialisation.
    pub fn change<R: Resource>(mut self, resource: &R, step: &R::Step) -> Result<Self, Error> {
        self.changes.push(PlannedStep::new(resource, step)?);
        Ok(self)
    }

    /// Adds a finisher: a step that is repeated until it succeeds, after the commit.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`] if the step does not survive its serialisation.
    pub fn finisher<R: Resource>(mut self, resource: &R, step: &R::Step) -> Result<Self, Error> {
        self.finishers.push(PlannedStep::new(resource, step)?);
        Ok(self)
    }

    /// Says which version is in place afterwards.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Adds a fact for the reader of the plan and the report.
    pub fn fact(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// Bounds the time until the commit. Of several bounds the shortest holds.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// Gives the operation another name: that of a composition, say.
    pub fn named(mut self, operation: impl Into<String>) -> Self {
        self.operation = operation.into();
        self
    }

    /// Joins two plans into one operation: this one's changes, then the other's, one commit, and
    /// the finishers of both.
    ///
    /// The other's version and facts win; their deadlines add up.
    pub fn then(mut self, other: Self) -> Self {
        self.operation = format!("{}+{}", self.operation, other.operation);
        self.version = other.version.or(self.version);
        self.facts.extend(other.facts);
        self.deadline = match (self.deadline, other.deadline) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            _ => None,
        };
        self.changes.extend(other.changes);
        self.finishers.extend(other.finishers);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.finishers.is_empty()
    }

    /// All steps, in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.changes.iter().chain(&self.finishers)
    }

    /// The resources that it acts on, sorted and each once: the order in which they are locked.
    pub fn resources(&self) -> Vec<ResourceId> {
        let mut ids: Vec<_> = self.steps().map(|step| step.resource.clone()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The digest that an approval is bound to: SHA-256 of the plan's JSON with sorted keys.
    pub fn digest(&self) -> PlanDigest {
        let value = serde_json::to_value(self).expect("a plan is made of JSON values");
        let mut hasher = Sha256::new();
        hasher.update(canonical(&value));
        PlanDigest(hex::encode(hasher.finalize()))
    }
}

/// JSON with sorted keys, whatever order the map type of this build keeps.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<_> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// The identity of a plan's content: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanDigest(String);

impl PlanDigest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for PlanDigest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(text));
        }
        Err(Error::new(ErrorKind::InvalidInput, format!("`{text}` is no plan digest"))
            .remedy("give the 64 hexadecimal digits that the dry run printed"))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        writeln!(f)?;
        for (key, value) in &self.facts {
            writeln!(f, "  {key}: {value}")?;
        }
        if self.is_empty() {
            writeln!(f, "  nothing to do")?;
        }
        let mut number = 0;
        for (title, steps) in [("changes", &self.changes), ("after the commit", &self.finishers)] {
            if steps.is_empty() {
                continue;
            }
            writeln!(f, "  {title}")?;
            for step in steps {
                number += 1;
                writeln!(f, "  {number:>3}. {:<8} {}", step.effect.kind, step.effect.what)?;
            }
        }
        let mut stays = self.steps().filter(|s| s.effect.kind == EffectKind::Retained).peekable();
        if stays.peek().is_some() {
            writeln!(f, "  stays, even when the operation goes back")?;
            for step in stays {
                writeln!(f, "       {}", step.effect.what)?;
            }
        }
        write!(f, "  digest {}", self.digest())
    }
}
