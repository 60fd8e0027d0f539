//! Drives a journal to its end: forward while all is well, else back. Running and recovering
//! differ only in where they begin.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::ledger::Ledger;
use super::step_context::StepContext;
use super::world::World;
use crate::context::Context;
use crate::error::{Class, StepError};
use crate::event::Event;
use crate::journal::{Action, End, Record, State};
use crate::operation_id::OperationId;
use crate::outcome::{AbortReason, Outcome};
use crate::plan::PlannedStep;

/// The delays between two tries of an undo or a finisher.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// One operation on its way to its end.
pub(super) struct Drive<'a> {
    cx: &'a Context,
    world: &'a dyn World,
    id: OperationId,
    ledger: Arc<Ledger>,
    blocking: TaskTracker,
    /// When the changes must be done, and when the undos, on the clock's `elapsed`.
    deadline: Duration,
    undo_until: Option<Duration>,
    /// How long each step took here.
    pub took: Vec<Duration>,
    /// The messages of the error that decided the outcome.
    pub error: Vec<String>,
    pub warnings: Vec<String>,
}

/// Which way a step is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Run,
    Undo,
}

impl<'a> Drive<'a> {
    pub fn new(cx: &'a Context, world: &'a dyn World, ledger: Arc<Ledger>) -> Self {
        let state = ledger.state();
        let plan = &state.began().plan;
        let budget = plan.deadline.unwrap_or(cx.0.deadline).min(cx.0.deadline);
        Self {
            cx,
            world,
            id: state.began().id,
            ledger,
            blocking: TaskTracker::new(),
            deadline: cx.clock().elapsed().saturating_add(budget),
            undo_until: None,
            took: vec![Duration::ZERO; plan.steps().count()],
            error: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Goes on until the operation has ended, as far as it can be ended here. Whatever is logged
    /// meanwhile stands in the span `operation`, and what a step logs in the span `step` below it.
    pub async fn go_to_the_end(&mut self) -> Outcome {
        let state = self.ledger.state();
        let operation = &state.began().plan.operation;
        let span = tracing::info_span!(target: "ops", "operation", id = %self.id, name = operation);
        self.act_until_it_ended().instrument(span).await
    }

    async fn act_until_it_ended(&mut self) -> Outcome {
        loop {
            match self.ledger.next_action() {
                Action::Run(step) => self.go_forward(step).await,
                Action::Abort => self.abort_for_the_dead().await,
                Action::Commit => {
                    if let Some(outcome) = self.commit().await {
                        return outcome;
                    }
                }
                Action::Undo(step) => self.go_back(step).await,
                Action::Finish(step) => self.finish(step).await,
                Action::Close => return self.close().await,
                Action::NeedsPerson(step) => return self.needs_person(step),
                Action::LeaveFinishers => {
                    let pending = self.ledger.state().open_finishers();
                    return Outcome::FinishersPending { pending };
                }
                Action::Nothing => return ended(&self.ledger.state()),
            }
        }
    }

    /// Goes back although nothing failed in this process: what a recovery does first.
    pub async fn abort_for_the_dead(&mut self) {
        let cause = vec!["the process that ran it died".to_owned()];
        self.abort(AbortReason::ProcessDied, cause).await;
    }

    async fn abort(&mut self, why: AbortReason, cause: Vec<String>) {
        self.abort_as(why, why.class(Class::Permanent), cause).await;
    }

    async fn abort_as(&mut self, why: AbortReason, class: Class, cause: Vec<String>) {
        let cause: Vec<_> = cause.iter().map(|line| self.redact(line)).collect();
        self.emit(&Event::Aborting { id: self.id, cause: &cause.join(": ") });
        self.error.clone_from(&cause);
        self.undo_until = Some(self.cx.clock().elapsed().saturating_add(self.cx.0.undo_budget));
        let written =
            self.ledger.record_or_fall_silent(Record::Aborting { why, cause, class }).await;
        self.warn_if_silent(written.err());
    }

    async fn abort_without_journal(&mut self, source: &std::io::Error) {
        self.abort(AbortReason::JournalFailed, journal_failed(source)).await;
    }

    async fn go_forward(&mut self, step: usize) {
        if let Some((why, cause)) = self.stop_cause() {
            return self.abort(why, vec![cause.to_owned()]).await;
        }
        if let Err(failure) = self.ledger.record(Record::Intent { step }).await {
            return self.abort_without_journal(&failure.source).await;
        }
        let planned = self.planned(step);
        self.emit(&Event::StepStarted { id: self.id, step: &planned });
        let started = self.cx.clock().elapsed();
        let result =
            self.call(Way::Run, step, &planned, self.deadline, Some(self.cx.cancellation()));
        let result = result.await;
        self.count(step, started);
        match result {
            Ok(()) => {
                if let Err(failure) = self.ledger.record(Record::Done { step }).await {
                    return self.abort_without_journal(&failure.source).await;
                }
                self.emit(&Event::StepDone { id: self.id, step: &planned, took: self.took[step] });
            }
            Err(error) => {
                let failed = format!("step `{}` failed", planned.name);
                let (why, mut cause) = match self.stop_cause() {
                    Some((why, stop)) => (why, vec![stop.to_owned(), failed]),
                    None => (AbortReason::StepFailed, vec![failed]),
                };
                let chain = self.redacted_chain(&error);
                let text = chain.join(": ");
                self.emit(&Event::StepFailed { id: self.id, step: &planned, error: &text });
                cause.extend(chain);
                self.abort_as(why, why.class(error.class()), cause).await;
            }
        }
    }

    /// Writes the pivot. `None` if the operation goes on, either way.
    async fn commit(&mut self) -> Option<Outcome> {
        if let Some((why, cause)) = self.stop_cause() {
            self.abort(why, vec![cause.to_owned()]).await;
            return None;
        }
        match self.ledger.record(Record::Committed).await {
            Ok(()) => {
                self.emit(&Event::Committed { id: self.id });
                None
            }
            Err(failure) if failure.proven_absent => {
                self.abort_without_journal(&failure.source).await;
                None
            }
            Err(failure) => {
                self.error = journal_failed(&failure.source);
                Some(Outcome::CommitUnknown)
            }
        }
    }

    async fn go_back(&mut self, step: usize) {
        let budget = self.cx.0.undo_budget;
        let now = self.cx.clock().elapsed();
        let until = *self.undo_until.get_or_insert(now.saturating_add(budget));
        let written = self.ledger.record_or_fall_silent(Record::Undoing { step }).await;
        self.warn_if_silent(written.err());
        let planned = self.planned(step);
        let started = self.cx.clock().elapsed();
        let result = match self.wait_for_blocking_work(until).await {
            Ok(()) => self.until_it_succeeds(Way::Undo, step, &planned, until).await,
            Err(error) => Err(error),
        };
        self.count(step, started);
        let record = match result {
            Ok(()) => {
                let took = self.cx.clock().elapsed().saturating_sub(started);
                self.emit(&Event::StepUndone { id: self.id, step: &planned, took });
                Record::Undone { step }
            }
            Err(error) => {
                let chain = self.redacted_chain(&error);
                let text = chain.join(": ");
                self.emit(&Event::UndoFailed { id: self.id, step: &planned, error: &text });
                let known = error.remedy_text().map(|remedy| format!(" ({remedy})"));
                let remedy = format!(
                    "`{}` on {} could not be undone: {text}{}; remove the cause and call `recover`, \
                     or put it back by hand and resolve operation {}",
                    planned.effect.what,
                    planned.resource,
                    known.unwrap_or_default(),
                    self.id
                );
                let remedy = self.redact(&remedy);
                Record::UndoFailed { step, error: chain, remedy }
            }
        };
        let written = self.ledger.record_or_fall_silent(record).await;
        self.warn_if_silent(written.err());
    }

    async fn finish(&mut self, step: usize) {
        let written = self.ledger.record_or_fall_silent(Record::Finishing { step }).await;
        self.warn_if_silent(written.err());
        let planned = self.planned(step);
        self.emit(&Event::StepStarted { id: self.id, step: &planned });
        let started = self.cx.clock().elapsed();
        let until = started.saturating_add(self.cx.0.finish_budget);
        let result = self.until_it_succeeds(Way::Run, step, &planned, until).await;
        self.count(step, started);
        let record = match result {
            Ok(()) => {
                self.emit(&Event::StepDone { id: self.id, step: &planned, took: self.took[step] });
                Record::Finished { step }
            }
            Err(error) => {
                let chain = self.redacted_chain(&error);
                let text = chain.join(": ");
                self.warnings.push(format!("`{}` is not finished: {text}", planned.effect.what));
                self.emit(&Event::StepFailed { id: self.id, step: &planned, error: &text });
                Record::FinishFailed { step, error: chain }
            }
        };
        let written = self.ledger.record_or_fall_silent(record).await;
        self.warn_if_silent(written.err());
    }

    async fn close(&mut self) -> Outcome {
        let state = self.ledger.state();
        let forward = *state.phase() == crate::journal::Phase::Committed;
        let end = if forward { End::Completed } else { End::RolledBack };
        let written = self.ledger.record_or_fall_silent(Record::Closed { end }).await;
        self.warn_if_silent(written.err());
        ended(&self.ledger.state())
    }

    fn needs_person(&mut self, step: usize) -> Outcome {
        let state = self.ledger.state();
        let what_to_do = state.what_to_do().map_or_else(
            || format!("undo `{}` by hand", state.step(step).effect.what),
            str::to_owned,
        );
        Outcome::NeedsPerson { what_to_do }
    }

    /// Calls a step again and again, with growing delays, until it succeeds, fails for good, or
    /// the time is over.
    async fn until_it_succeeds(
        &self,
        way: Way,
        step: usize,
        planned: &PlannedStep,
        until: Duration,
    ) -> Result<(), StepError> {
        let mut delay = FIRST_DELAY;
        loop {
            let error = match self.call(way, step, planned, until, None).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let now = self.cx.clock().elapsed();
            if error.class() == Class::Permanent || now.saturating_add(delay) >= until {
                return Err(error);
            }
            self.cx.clock().sleep(delay).await;
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    /// Calls a step once. At `until`, or when it is cancelled, the step is asked to end; after a
    /// grace it is dropped. A panic is a permanent error.
    async fn call(
        &self,
        way: Way,
        step: usize,
        planned: &PlannedStep,
        until: Duration,
        cancellation: Option<&CancellationToken>,
    ) -> Result<(), StepError> {
        let cancel = CancellationToken::new();
        let cx = StepContext {
            cx: self.cx.clone(),
            id: self.id,
            resource: planned.resource.clone(),
            index: step,
            cancel: cancel.clone(),
            ledger: Some(Arc::clone(&self.ledger)),
            blocking: self.blocking.clone(),
        };
        let resource = self
            .world
            .find(&planned.resource)
            .ok_or_else(|| StepError::permanent(format!("the world lacks {}", planned.resource)))?;
        let future: BoxFuture<'_, _> = match way {
            Way::Run => resource.run(&planned.step, &cx),
            Way::Undo => resource.undo(&planned.step, &cx),
        };
        let way = match way {
            Way::Run => "run",
            Way::Undo => "undo",
        };
        let name = &planned.name;
        let span =
            tracing::info_span!(target: "ops", "step", name, resource = %planned.resource, way);
        let future = future.instrument(span);
        let mut future = AssertUnwindSafe(future).catch_unwind();
        let clock = self.cx.clock();
        let stop = async {
            let timer = clock.sleep(until.saturating_sub(clock.elapsed()));
            match cancellation {
                Some(token) => drop(token.run_until_cancelled(timer).await),
                None => timer.await,
            }
        };
        let ended = tokio::select! {
            biased;
            ended = &mut future => Some(ended),
            () = stop => {
                cancel.cancel();
                tokio::select! {
                    biased;
                    ended = &mut future => Some(ended),
                    () = clock.sleep(self.cx.0.step_grace) => None,
                }
            }
        };
        match ended {
            Some(Ok(result)) => result,
            Some(Err(panic)) => {
                Err(StepError::permanent(format!("the step panicked: {}", panic_message(&*panic))))
            }
            None => Err(StepError::temporary("the step did not end when it was asked to")),
        }
    }

    /// Work on other threads outlives the step that started it; to undo next to it would be a race.
    async fn wait_for_blocking_work(&self, until: Duration) -> Result<(), StepError> {
        self.blocking.close();
        let clock = self.cx.clock();
        let timer = clock.sleep(until.saturating_sub(clock.elapsed()));
        let ended = tokio::select! {
            biased;
            () = self.blocking.wait() => true,
            () = timer => false,
        };
        self.blocking.reopen();
        if ended {
            return Ok(());
        }
        Err(StepError::permanent("the step's blocking work still runs in this process")
            .remedy("end this process, then call `recover`"))
    }

    /// Why the operation has to stop, if it has to.
    fn stop_cause(&self) -> Option<(AbortReason, &'static str)> {
        if self.cx.cancellation().is_cancelled() {
            return Some((AbortReason::Cancelled, "the operation was cancelled"));
        }
        (self.cx.clock().elapsed() >= self.deadline)
            .then_some((AbortReason::DeadlinePassed, "the operation's deadline has passed"))
    }

    fn planned(&self, step: usize) -> PlannedStep {
        self.ledger.state().step(step).clone()
    }

    fn count(&mut self, step: usize, started: Duration) {
        self.took[step] += self.cx.clock().elapsed().saturating_sub(started);
    }

    fn redact(&self, text: &str) -> String {
        self.cx.redactor().redact(text)
    }

    fn redacted_chain(&self, error: &StepError) -> Vec<String> {
        error.chain().iter().map(|message| self.redact(message)).collect()
    }

    fn emit(&self, event: &Event<'_>) {
        for observer in &self.cx.0.observers {
            observer.event(event);
        }
    }

    fn warn_if_silent(&mut self, failure: Option<crate::journal::AppendFailure>) {
        if let Some(failure) = failure {
            let warning = format!(
                "the journal cannot be written ({}); it stays open, and its resources stay blocked, \
                 until `recover` has gone over it",
                failure.source
            );
            self.warnings.push(warning);
        }
    }
}

fn journal_failed(source: &std::io::Error) -> Vec<String> {
    vec!["the journal cannot be written".to_owned(), source.to_string()]
}

/// The outcome of a closed operation.
pub(super) fn ended(state: &State) -> Outcome {
    use crate::journal::{Phase, ResolvedState};
    match state.phase() {
        Phase::Closed(End::Completed | End::Resolved { state: ResolvedState::New, .. }) => {
            Outcome::Completed
        }
        Phase::Closed(End::Resolved { by, reason, .. }) => {
            let cause = format!("resolved by {by}: {reason}");
            Outcome::RolledBack { why: AbortReason::ByHand, cause, class: Class::Permanent }
        }
        _ => {
            let (why, cause, class) = (state.why(), state.cause().join(": "), state.class());
            Outcome::RolledBack { why, cause, class }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
