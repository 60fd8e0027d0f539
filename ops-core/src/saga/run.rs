//! Runs an approved plan.

use std::sync::Arc;

use super::conclude::{Conclusion, refused, result};
use super::drive::Drive;
use super::ledger::Ledger;
use super::locks::{Denied, Locks};
use super::preflight;
use super::world::World;
use crate::approval::Approved;
use crate::context::Context;
use crate::error::{Error, Refusal};
use crate::event::Event;
use crate::host::LoadSampler;
use crate::journal::{Began, Folder, JournalFile, Phase, Record, State};
use crate::operation_id::OperationId;
use crate::outcome::Outcome;
use crate::report::Report;

/// Runs an approved plan.
///
/// `Ok` means that the new state is in place for good: the report's outcome is
/// [`Completed`](Outcome::Completed), or [`FinishersPending`](Outcome::FinishersPending) where
/// `recover` still has to tidy up. A plan without steps completes without a journal.
///
/// # Errors
/// Each of the other outcomes, under the [`ErrorKind`](crate::ErrorKind) of its name, with the report in
/// [`Error::report`]: refused (nothing was begun), rolled back (the old state), needs a person,
/// commit unknown.
///
/// # Cancellation
/// Cancel by the context's token: the operation then goes back, and this call says so. Dropping
/// the future is like a crash: the journal stays open, the resources stay blocked, and
/// [`recover`](super::recover) brings them back.
pub async fn run(approved: Approved, world: &dyn World, cx: &Context) -> Result<Report, Error> {
    let Approved { plan, environment, approval } = approved;
    let id = OperationId::generate();
    let mut conclusion =
        Conclusion { id, approval: approval.as_ref(), ..Conclusion::not_begun(cx, &plan) };

    preflight::shows_no_secret(&plan, cx.redactor())?;
    preflight::fits(&plan, world)?;
    let mut refusals = Vec::new();
    if environment != cx.environment() {
        refusals.push(Refusal::new(
            format!("the plan was approved for {environment}, this is {}", cx.environment()),
            "approve it here",
        ));
    }
    if let Some(stale) = approval.as_ref().filter(|approval| approval.expires_at < cx.clock().now())
    {
        refusals.push(Refusal::new(
            format!("the approval by `{}` expired at {}", stale.by, stale.expires_at),
            "make the plan again and have it approved again",
        ));
    }
    if !refusals.is_empty() {
        return Err(refused(cx, conclusion, refusals).await);
    }
    if plan.is_empty() {
        return result(conclusion.report(cx, Outcome::Completed).await);
    }

    let folder = Folder::of(cx.state_dir());
    let resources = plan.resources();
    let locks = match Locks::take(cx, world, &resources, id, folder.open_path(id)).await {
        Ok(locks) => locks,
        Err(Denied::Held(reasons)) => return Err(refused(cx, conclusion, reasons).await),
        Err(Denied::Failed(error)) => return Err(error),
    };
    let mut reasons = unfinished(folder.clone(), resources).await?;
    if reasons.is_empty() {
        reasons = preflight::checks(&plan, world, cx, id).await;
    }
    if !reasons.is_empty() {
        locks.give_back().await?;
        return Err(refused(cx, conclusion, reasons).await);
    }

    let program = cx.0.program.clone();
    let began = Began::new(id, program, environment, approval.clone(), plan.clone());
    let (journal, state) = match create_journal(&folder, began, cx).await {
        Ok((journal, state, load)) => {
            conclusion.load = Some(load);
            (journal, state)
        }
        Err(error) => {
            locks.give_back().await?;
            let reason = crate::error::chain(&error).join(": ");
            let refusal =
                Refusal::new(reason, "make the state directory writable, with free space");
            return Err(refused(cx, conclusion, vec![refusal]).await);
        }
    };

    let began = Event::Began { id, plan: &plan, recovering: false };
    cx.0.observers.iter().for_each(|observer| observer.event(&began));
    let ledger = Arc::new(Ledger::new(journal, state));
    let mut drive = Drive::new(cx, world, Arc::clone(&ledger));
    let outcome = drive.go_to_the_end().await;

    let state = ledger.state();
    conclusion.state = Some(&state);
    conclusion.took = &drive.took;
    conclusion.error = &drive.error;
    let closed = matches!(state.phase(), Phase::Closed(_)) && !ledger.is_silent();
    let mut warnings = std::mem::take(&mut drive.warnings);
    if closed && let Err(error) = locks.release().await {
        warnings.push(crate::error::chain(&error).join(": "));
    }
    conclusion.warnings = &warnings;
    let report = conclusion.report(cx, outcome).await;
    // Only now, so that a crash before leaves the report to `recover`.
    if closed {
        put_away(folder, id).await;
    }
    result(report)
}

/// Puts a journal away whose operation is closed and reported. If that fails, `recover` does it,
/// and reports once more.
pub(super) async fn put_away(folder: Folder, id: OperationId) {
    crate::fault::point("before the journal is put away");
    let put_away = tokio::task::spawn_blocking(move || folder.put_away(id));
    if let Ok(Err(error)) = put_away.await {
        tracing::warn!(target: "ops", %id, "the closed journal stays in `open`: {error}");
    }
}

async fn unfinished(
    folder: Folder,
    resources: Vec<crate::resource::ResourceId>,
) -> Result<Vec<Refusal>, Error> {
    let look = move || preflight::unfinished(&folder, &resources);
    tokio::task::spawn_blocking(look).await.map_err(panicked)?
}

async fn create_journal(
    folder: &Folder,
    began: Began,
    cx: &Context,
) -> Result<(JournalFile, State, LoadSampler), Error> {
    let path = folder.open_path(began.id);
    let io = Arc::clone(&cx.0.journal_io);
    let create = move || {
        let record = Record::Began(Box::new(began));
        let state = State::first(&record).map_err(|illegal| {
            Error::new(crate::ErrorKind::Journal, "the journal cannot begin").caused_by(illegal)
        })?;
        Ok((JournalFile::create(&path, &record, io)?, state, LoadSampler::start()))
    };
    tokio::task::spawn_blocking(create).await.map_err(panicked)?
}

pub(super) fn panicked(join: tokio::task::JoinError) -> Error {
    Error::new(crate::ErrorKind::Io, "work on the journal panicked").caused_by(join)
}
