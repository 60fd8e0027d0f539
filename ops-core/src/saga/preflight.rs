//! What is checked before the first record is written; every reason against it at once.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tokio_util::task::TaskTracker;

use super::step_context::StepContext;
use super::world::World;
use crate::context::Context;
use crate::error::{Class, Error, ErrorKind, Refusal};
use crate::journal::{Folder, Phase, peek, replay};
use crate::operation_id::OperationId;
use crate::plan::Plan;
use crate::resource::ResourceId;
use crate::secret::Redactor;

/// Checks that the plan says the truth about its steps, and that the world has what it acts on.
pub(super) fn fits(plan: &Plan, world: &dyn World) -> Result<(), Error> {
    let refuse = |what: String| Error::new(ErrorKind::Plan, what);
    if plan.schema > crate::plan::PLAN_SCHEMA {
        return Err(refuse(format!(
            "the plan's format {} is newer than this program",
            plan.schema
        )));
    }
    for step in plan.steps() {
        let id = &step.resource;
        let resource = world.find(id).ok_or_else(|| {
            refuse(format!("the world lacks {id}, on which step `{}` acts", step.name))
                .remedy("hand every resource of the plan to the call")
        })?;
        if resource.family() != step.family {
            let have = resource.family();
            return Err(refuse(format!("{id} takes steps of `{have}`, not of `{}`", step.family)));
        }
        let effect = resource.effect(&step.step).map_err(|source| {
            refuse(format!("step `{}` on {id} cannot be read", step.name)).caused_by(source)
        })?;
        if effect != step.effect {
            return Err(refuse(format!(
                "the plan says that step `{}` {} `{}`, but it {} `{}`",
                step.name, step.effect.kind, step.effect.what, effect.kind, effect.what
            )));
        }
    }
    Ok(())
}

/// A plan goes into journals, reports and logs as it is. The error names positions: a name could be
/// what must not be shown.
pub(super) fn shows_no_secret(plan: &Plan, redactor: &Redactor) -> Result<(), Error> {
    let shows = |text: &str| matches!(redactor.redacted(text), Cow::Owned(_));
    let refuse = |what: String| {
        Error::new(ErrorKind::Plan, what)
            .remedy("carry a reference, such as the name of the secret's variable")
    };
    let facts = plan.facts.iter().flat_map(|(key, value)| [key, value]);
    if facts.chain([&plan.operation]).any(|text| shows(text)) {
        return Err(refuse("the plan's name or one of its facts shows a secret".into()));
    }
    let total = plan.steps().count();
    for (index, step) in plan.steps().enumerate() {
        let value = step.step.to_string();
        let resource = step.resource.to_string();
        if [&value, &resource, &step.name, &step.effect.what].into_iter().any(|text| shows(text)) {
            return Err(refuse(format!("step {} of {total} shows a secret", index + 1)));
        }
    }
    Ok(())
}

/// Unfinished operations on these resources: each blocks them until it is recovered.
pub(super) fn unfinished(folder: &Folder, resources: &[ResourceId]) -> Result<Vec<Refusal>, Error> {
    let wanted: BTreeSet<_> = resources.iter().collect();
    let mut refusals = Vec::new();
    for (id, path) in folder.open()? {
        let state = match peek(&path).and_then(|entries| replay(&path, &entries)) {
            Ok(state) => state,
            // Put away between listing and reading.
            Err(_) if !path.exists() => continue,
            // What it acts on cannot be known: it may be any of ours.
            Err(error) => {
                refusals.push(Refusal::new(
                    format!("the journal of operation {id} cannot be read: {error}"),
                    "settle it by hand, then move the file away",
                ));
                continue;
            }
        };
        if matches!(state.phase(), Phase::Closed(_)) {
            continue;
        }
        let plan = &state.began().plan;
        if let Some(shared) = plan.resources().iter().find(|id| wanted.contains(id)) {
            refusals.push(Refusal::new(
                format!("operation {id} (`{}`) on {shared} is not finished", plan.operation),
                state.what_to_do().map_or("call `recover` first".to_owned(), str::to_owned),
            ));
        }
    }
    Ok(refusals)
}

/// Asks each step what must hold before it starts.
pub(super) async fn checks(
    plan: &Plan,
    world: &dyn World,
    cx: &Context,
    id: OperationId,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (index, step) in plan.steps().enumerate() {
        let Some(resource) = world.find(&step.resource) else { continue };
        // Whatever the check began on other threads is asked to end with it.
        let cancel = cx.cancellation().child_token();
        let _ends = cancel.clone().drop_guard();
        let step_cx = StepContext {
            cx: cx.clone(),
            id,
            resource: step.resource.clone(),
            index,
            cancel,
            ledger: None,
            blocking: TaskTracker::new(),
        };
        let deadline = plan.deadline.unwrap_or(cx.0.deadline).min(cx.0.deadline);
        let checked = tokio::select! {
            biased;
            checked = resource.check(&step.step, &step_cx) => checked,
            () = cx.cancellation().cancelled() => {
                let reason = format!("it was cancelled while step `{}` was checked", step.name);
                refusals.push(Refusal::new(reason, "run it again").class_of(Class::Temporary));
                break;
            }
            () = cx.clock().sleep(deadline) => {
                Err(crate::error::StepError::temporary(format!("no answer within {deadline:?}")))
            }
        };
        match checked {
            Ok(more) => refusals.extend(more),
            Err(error) => {
                let reason =
                    format!("step `{}` cannot be checked: {}", step.name, error.chain().join(": "));
                let remedy = error.remedy_text().unwrap_or("remove the cause");
                refusals.push(Refusal::new(reason, remedy).class_of(error.class()));
            }
        }
    }
    for refusal in &mut refusals {
        refusal.reason = cx.redactor().redact(&refusal.reason);
        refusal.remedy = cx.redactor().redact(&refusal.remedy);
    }
    refusals
}
