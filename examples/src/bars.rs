//! What happens, for a person who watches: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ops_core::progress::{Unit, Update};
use ops_core::{Event, Observer, Progress};

/// Shows the steps of operations and the progress of long work. Clones share the place.
///
/// It is both what a [`Context`](ops_core::Context) calls an observer and what it calls progress.
#[derive(Clone)]
pub struct Bars(Arc<Mutex<Inner>>);

struct Inner {
    /// Where the lines go that stay.
    out: Box<dyn Write + Send>,
    /// Bars, where the place is a terminal.
    terminal: Option<MultiProgress>,
    steps: Option<ProgressBar>,
    phases: BTreeMap<String, ProgressBar>,
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}

impl Bars {
    /// Writes lines here; and where it `is_terminal`, bars below them, on the standard error
    /// stream.
    pub fn new(out: impl Write + Send + 'static, is_terminal: bool) -> Self {
        let terminal = is_terminal
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20)));
        let inner = Inner { out: Box::new(out), terminal, steps: None, phases: BTreeMap::new() };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Writes a line that stays.
    pub fn line(&self, text: &str) {
        self.lock().line(text);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn line(&mut self, text: &str) {
        let Self { out, terminal, .. } = self;
        // A reader that went away is no reason to stop an operation.
        let mut write = || drop(writeln!(out, "{text}").and_then(|()| out.flush()));
        match terminal {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn begin(&mut self, title: &str, steps: usize) {
        let Some(bars) = &self.terminal else { return };
        let bar = bars.add(ProgressBar::new(steps as u64)).with_prefix(title.to_owned());
        let look = "  {spinner} {prefix} [{bar:24}] {pos}/{len} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(look).expect("the template is a constant"));
        bar.enable_steady_tick(Duration::from_millis(100));
        self.steps = Some(bar);
    }

    fn end(&mut self) {
        let bars = std::mem::take(&mut self.phases).into_values().chain(self.steps.take());
        bars.for_each(|bar| bar.finish_and_clear());
    }

    fn step(&mut self, mark: &str, what: &str, took: Option<Duration>) {
        if let Some(bar) = &self.steps {
            bar.inc(1);
        }
        let took = took.map(|took| format!(" ({} ms)", took.as_millis())).unwrap_or_default();
        self.line(&format!("  {mark:<6} {what}{took}"));
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event<'_>) {
        let mut inner = self.lock();
        match event {
            Event::Began { plan, .. } => inner.begin(&plan.operation, plan.steps().count()),
            Event::StepStarted { step, .. } => {
                if let Some(bar) = &inner.steps {
                    bar.set_message(step.effect.what.clone());
                }
            }
            Event::StepDone { step, took, .. } => {
                inner.step("done", &step.effect.what, Some(*took));
            }
            Event::StepFailed { step, error, .. } => {
                inner.line(&format!("  FAILED {}: {error}", step.effect.what));
            }
            Event::Aborting { .. } => inner.line("  going back"),
            Event::StepUndone { step, took, .. } => {
                inner.step("undone", &step.effect.what, Some(*took));
            }
            Event::UndoFailed { step, error, .. } => {
                inner.line(&format!("  STUCK  undoing `{}`: {error}", step.effect.what));
            }
            Event::Committed { .. } => inner.line("  committed: from here there is no way back"),
            Event::Ended { .. } => inner.end(),
            _ => {}
        }
    }
}

impl Progress for Bars {
    fn update(&self, update: &Update) {
        let mut inner = self.lock();
        let Inner { terminal: Some(bars), phases, .. } = &mut *inner else { return };
        let bar = phases.entry(update.phase.clone()).or_insert_with(|| {
            let look = match (update.unit, update.total) {
                (Unit::Bytes, Some(_)) => "    {prefix} [{bar:24}] {bytes}/{total_bytes}",
                (Unit::Bytes, None) => "    {prefix} {bytes}",
                (Unit::Items, Some(_)) => "    {prefix} [{bar:24}] {pos}/{len}",
                (Unit::Items, None) => "    {prefix} {pos}",
            };
            let style = ProgressStyle::with_template(look).expect("the templates are constants");
            bars.add(ProgressBar::no_length()).with_style(style).with_prefix(update.phase.clone())
        });
        if let Some(total) = update.total {
            bar.set_length(total);
        }
        bar.set_position(update.done);
        if update.total == Some(update.done)
            && let Some(bar) = phases.remove(&update.phase)
        {
            bar.finish_and_clear();
        }
    }
}
