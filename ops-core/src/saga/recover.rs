//! Brings interrupted operations to an end: back if they had not committed, forward if they had.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::conclude::Conclusion;
use super::drive::Drive;
use super::ledger::Ledger;
use super::locks::{Denied, Locks};
use super::preflight;
use super::run::{panicked, put_away};
use super::world::World;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Refusal};
use crate::event::Event;
use crate::host::LoadSampler;
use crate::journal::{Began, Folder, JournalFile, Opened, Phase, Record, peek};
use crate::operation_id::OperationId;
use crate::outcome::Outcome;
use crate::report::Report;

/// What [`recover`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// One report for each operation that was brought to its end, oldest first.
    pub reports: Vec<Report>,
    /// Operations on these resources that a living process is running now; they were left alone.
    pub running: Vec<OperationId>,
}

/// Brings every interrupted operation on the world's resources to its end: without a commit record
/// it undoes, with one it finishes. Safe to call always, and a program calls it when it starts.
///
/// Journals of operations on other resources are left alone.
///
/// # Errors
/// [`ErrorKind::NeedsPerson`] if an operation is still open afterwards, each named with what to do:
/// an undo or finisher that fails, a damaged journal, one of a newer program or of another one
/// (which are not touched), resources that the world lacks. What could be ended was ended all the
/// same. Other kinds if the journals cannot be listed.
///
/// # Cancellation
/// Recovery ignores the context's token: half a recovery helps nobody. Dropping the future is like
/// a crash, and the next call goes on.
pub async fn recover(world: &dyn World, cx: &Context) -> Result<Recovery, Error> {
    let mut recovery = Recovery::default();
    let mut open = Vec::new();
    let folder = Folder::of(cx.state_dir());
    let listing = folder.clone();
    let journals = tokio::task::spawn_blocking(move || {
        if let Err(error) = listing.sweep() {
            // It only takes room.
            let error = crate::error::chain(&error).join(": ");
            tracing::debug!(target: "ops", error, "what dead processes left stays");
        }
        listing.open()
    })
    .await
    .map_err(panicked)??;
    for (id, path) in journals {
        match recover_one(world, cx, &folder, id, &path).await {
            Ok(Found::NotOurs) => {}
            Ok(Found::Running) => recovery.running.push(id),
            Ok(Found::Ended(report)) => {
                match &report.outcome {
                    Outcome::Completed | Outcome::RolledBack { .. } => {
                        if let Some(warning) = report.warnings.first() {
                            open.push(Refusal::new(
                                format!("operation {id} stays open"),
                                warning.clone(),
                            ));
                        }
                    }
                    Outcome::FinishersPending { pending } => open.push(Refusal::new(
                        format!(
                            "operation {id} is in place but not finished: {}",
                            pending.join(", ")
                        ),
                        "remove the cause and call `recover` again",
                    )),
                    Outcome::NeedsPerson { what_to_do } => {
                        open.push(Refusal::new(
                            format!("operation {id} could not be undone"),
                            what_to_do.clone(),
                        ));
                    }
                    other => open.push(Refusal::new(
                        format!("operation {id} ended as {}", other.name()),
                        "make the state directory writable and call `recover` again",
                    )),
                }
                recovery.reports.push(*report);
            }
            Err(error) => {
                let remedy = crate::error::Classify::remedy(&error).map(str::to_owned);
                open.push(Refusal::new(
                    format!("operation {id}: {}", crate::error::chain(&error).join(": ")),
                    remedy.unwrap_or_else(|| "remove the cause and call `recover` again".into()),
                ));
            }
        }
    }
    if open.is_empty() {
        return Ok(recovery);
    }
    let mut error =
        Error::new(ErrorKind::NeedsPerson, "not every operation could be ended").refusals(open);
    if let Some(report) = recovery.reports.pop() {
        error = error.with_report(report);
    }
    Err(error)
}

enum Found {
    NotOurs,
    Running,
    Ended(Box<Report>),
}

async fn recover_one(
    world: &dyn World,
    cx: &Context,
    folder: &Folder,
    id: OperationId,
    path: &Path,
) -> Result<Found, Error> {
    let Some(began) = read_first(path.to_owned()).await? else { return Ok(Found::NotOurs) };
    if !is_ours(&began, world, cx)? {
        return Ok(Found::NotOurs);
    }
    let started = cx.clock().elapsed();
    let (opened, load) = open(path.to_owned(), cx).await?;
    let (journal, state) = match opened {
        Opened::Ours(journal, state) => (*journal, *state),
        Opened::Running => return Ok(Found::Running),
        Opened::Gone => return Ok(Found::NotOurs),
    };
    let journal_path = journal.path().to_owned();
    if let Phase::Closed(_) = state.phase() {
        // Its process died between closing it and reporting it.
        let conclusion = Conclusion {
            recovered: true,
            started,
            load: Some(load),
            error: state.cause(),
            ..Conclusion::of(&began, &state, cx)
        };
        let report = conclusion.report(cx, super::drive::ended(&state)).await;
        put_away(folder.clone(), id).await;
        return Ok(Found::Ended(Box::new(report)));
    }
    preflight::fits(&began.plan, world)?;
    let locks = match Locks::take(cx, world, &began.plan.resources(), id, journal_path).await {
        Ok(locks) => locks,
        Err(denied @ Denied::Held(_)) => return Err(denied.into()),
        Err(Denied::Failed(error)) => return Err(error),
    };

    let event = Event::Began { id, plan: &began.plan, recovering: true };
    cx.0.observers.iter().for_each(|observer| observer.event(&event));
    let quiet = Context(Arc::new(crate::context::Settings {
        cancellation: tokio_util::sync::CancellationToken::new(),
        ..(*cx.0).clone()
    }));
    let running = *state.phase() == Phase::Running;
    let cause = state.cause().to_vec();
    let mut state = state;
    state.reconsider();
    let ledger = Arc::new(Ledger::new(journal, state));
    let mut drive = Drive::new(&quiet, world, Arc::clone(&ledger));
    drive.error = cause;
    if running {
        drive.abort_for_the_dead().await;
    }
    let outcome = drive.go_to_the_end().await;

    let state = ledger.state();
    let closed = matches!(state.phase(), Phase::Closed(_)) && !ledger.is_silent();
    if closed {
        locks.release().await?;
    }
    let conclusion = Conclusion {
        recovered: true,
        started,
        load: Some(load),
        took: &drive.took,
        error: &drive.error,
        warnings: &drive.warnings,
        ..Conclusion::of(&began, &state, cx)
    };
    let report = conclusion.report(cx, outcome).await;
    if closed {
        put_away(folder.clone(), id).await;
    }
    Ok(Found::Ended(Box::new(report)))
}

/// Whether this program with this world is to recover the operation; an error if it concerns the
/// world but cannot be recovered with it.
fn is_ours(began: &Began, world: &dyn World, cx: &Context) -> Result<bool, Error> {
    let resources = began.plan.resources();
    let missing: Vec<_> =
        resources.iter().filter(|id| world.find(id).is_none()).map(ToString::to_string).collect();
    if missing.len() == resources.len() {
        return Ok(false);
    }
    if began.program != cx.0.program {
        let (theirs, ours) = (&began.program, &cx.0.program);
        return Err(Error::new(
            ErrorKind::Foreign,
            format!("it was begun by the program `{theirs}`, this is `{ours}`"),
        )
        .remedy(format!("recover it with `{theirs}`, or with a context of that program's name")));
    }
    if began.environment != cx.environment() {
        let (theirs, ours) = (began.environment, cx.environment());
        return Err(Error::new(
            ErrorKind::Foreign,
            format!("it was begun in {theirs}, this is {ours}"),
        )
        .remedy("recover it with a context of that environment"));
    }
    if !missing.is_empty() {
        return Err(Error::new(ErrorKind::Plan, format!("the world lacks {}", missing.join(", ")))
            .remedy("hand every resource of the operation to `recover`"));
    }
    Ok(true)
}

async fn read_first(path: PathBuf) -> Result<Option<Box<Began>>, Error> {
    let read = move || match peek(&path) {
        Ok(entries) => match entries.into_iter().next().map(|entry| entry.record) {
            Some(Record::Began(began)) => Ok(Some(began)),
            _ => Err(Error::new(
                ErrorKind::Corrupt,
                format!("journal `{}` has no beginning", path.display()),
            )
            .remedy("settle its operation by hand and move the file away")),
        },
        Err(_) if !path.exists() => Ok(None),
        Err(error) => Err(error),
    };
    tokio::task::spawn_blocking(read).await.map_err(panicked)?
}

async fn open(path: PathBuf, cx: &Context) -> Result<(Opened, LoadSampler), Error> {
    let io = Arc::clone(&cx.0.journal_io);
    let open = move || Ok((JournalFile::open(&path, io)?, LoadSampler::start()));
    tokio::task::spawn_blocking(open).await.map_err(panicked)?
}
