//! What the steps do that all targets have, in one wording.

use ops_core::{Effect, Version};

use crate::history::Verb;

pub(crate) fn expects(current: Option<&Version>) -> Effect {
    match current {
        None => Effect::reads("see that no version is in service"),
        Some(version) => Effect::reads(format!("see that {version} is still in service")),
    }
}

/// `who` answers: "the new instance answers".
pub(crate) fn asks(who: &str, version: &Version, guards: &[String]) -> Effect {
    let question = format!("see that {who} as {version}");
    if guards.is_empty() {
        return Effect::reads(question);
    }
    Effect::reads(format!("{question}, and that {} is well", guards.join(", ")))
}

pub(crate) fn awaits_listeners(version: &Version) -> Effect {
    Effect::reads(format!("see that {version} takes connections, and do not ask for its health"))
}

pub(crate) fn records(version: &Version, verb: Verb) -> Effect {
    Effect::changes(format!("record the {} of {version} in the history", verb.as_str()))
}

pub(crate) fn stops_others(version: &Version, warm: Option<&Version>) -> Effect {
    let stop = format!("let what is not the new {version} answer its last requests, and stop it");
    Effect::changes(match warm {
        None => format!("{stop} (a rollback starts it again)"),
        Some(warm) => format!("{stop}, but for {warm}, which stays warm"),
    })
}
