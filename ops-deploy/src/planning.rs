//! What the plans of all targets have in common.

use std::time::Duration;

use ops_core::{Plan, Refusal, StepError, Version};

use crate::error::{Error, ErrorKind};
use crate::history::{History, Verb};

/// How much is made sure before the traffic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    Gate,
    Emergency,
}

/// A plan without steps, and what it says of itself.
pub(crate) fn headed(
    verb: Verb,
    version: &Version,
    current: Option<&Version>,
    care: Care,
    deadline: Duration,
) -> Plan {
    let plan = Plan::new(verb.as_str()).version(version.clone()).within(deadline);
    let plan = plan.fact("to", version);
    let plan = match current {
        Some(current) => plan.fact("from", current),
        None => plan,
    };
    if care == Care::Emergency { plan.fact("emergency", true) } else { plan }
}

/// What stands in a plan that has nothing to do.
pub(crate) fn is_well(plan: Plan, version: &Version) -> Plan {
    plan.fact("state", format!("{version} is in service and well"))
}

/// An error for whoever would go back from nothing to nothing in particular.
pub(crate) fn nothing_in_service() -> Error {
    let none = Refusal::new("no version is in service", "name the version to go back to");
    Error::new(ErrorKind::UnknownCurrent, "cannot determine the current version").refusals([none])
}

/// An error that names the other complete versions, as there is none before this one.
pub(crate) fn no_previous(current: &Version, complete: &[Version]) -> Error {
    let others: Vec<_> = complete.iter().filter(|version| *version != current).cloned().collect();
    let error = Error::new(ErrorKind::NoPrevious, "there is no previous complete version")
        .with("current", current);
    if others.is_empty() {
        error.remedy("no other version is complete; deploy one")
    } else {
        error.remedy(format!("name one of the complete versions: {}", names(&others)))
    }
}

/// Why the plan does not hold, if another version is in service than it was made for.
pub(crate) fn unexpected(found: Option<&Version>, expected: Option<&Version>) -> Vec<Refusal> {
    if found == expected {
        return Vec::new();
    }
    let name =
        |version: Option<&Version>| version.map_or("no version".to_owned(), ToString::to_string);
    vec![Refusal::new(
        format!("{} is in service, the plan was made for {}", name(found), name(expected)),
        "plan again",
    )]
}

/// The same of what was looked at, which may contradict itself.
pub(crate) fn unexpected_in(
    current: Result<Option<&Version>, Error>,
    expected: Option<&Version>,
) -> Vec<Refusal> {
    match current {
        Ok(found) => unexpected(found, expected),
        Err(error) => error.reasons().to_vec(),
    }
}

/// Goes on if nothing speaks against it.
pub(crate) fn as_planned(against: Vec<Refusal>) -> Result<(), StepError> {
    if against.is_empty() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Conflict, "the state is not what the plan was made for");
    Err(error.refusals(against).into())
}

pub(crate) fn names(versions: &[Version]) -> String {
    versions.iter().map(Version::as_str).collect::<Vec<_>>().join(", ")
}

/// The migration that a way back to this version goes across, for whoever says that it may.
pub(crate) fn way_across(
    history: &History,
    to: &Version,
    across: bool,
) -> Result<Option<String>, Error> {
    let Some((by, migration)) = history.closed_since(to).filter(|(by, _)| *by != to) else {
        return Ok(None);
    };
    if across {
        return Ok(Some(format!("{migration} of {by}")));
    }
    let error = format!(
        "the way back to {to} is closed: it cannot run after the migration `{migration}` of {by}"
    );
    Err(Error::new(ErrorKind::NoPrevious, error).remedy(
        "go forward to a repaired version; or take the migration back by hand, and say explicitly \
         that you roll back across it",
    ))
}

/// Says in a plan what it goes across.
pub(crate) fn crossing(plan: Plan, across: Option<String>) -> Plan {
    match across {
        Some(migration) => plan.fact("across migration", migration),
        None => plan,
    }
}
