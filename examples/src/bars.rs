//! What happens, for a person who watches: a live list of the steps on a terminal, plain lines
//! elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ops_core::progress::{Unit, Update};
use ops_core::{Event, Observer, Plan, Progress};

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
    /// The steps of the operation, where they fit a terminal; else one bar for all of them.
    list: Vec<Line>,
    steps: Option<ProgressBar>,
    phases: BTreeMap<String, ProgressBar>,
}

/// Longer lists do not fit a terminal, and are told in lines there, too.
const MOST_STEPS: usize = 40;

/// One step of the list.
struct Line {
    what: String,
    state: State,
    bar: ProgressBar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    Done,
    Failed,
    Undone,
    Stuck,
}

impl Line {
    fn new(bar: ProgressBar, what: &str) -> Self {
        let mut line = Self { what: what.to_owned(), state: State::Waits, bar };
        line.turn(State::Waits, "");
        line
    }

    fn turn(&mut self, state: State, more: &str) {
        self.state = state;
        let look = match state {
            State::Waits => "  . {msg}",
            State::Runs => "  {spinner} {msg} ({elapsed})",
            State::Done => "  ✓ {msg}",
            State::Failed => "  ✗ {msg}",
            State::Undone => "  ↩ {msg}",
            State::Stuck => "  ! {msg}",
        };
        let style = ProgressStyle::with_template(look).expect("the templates are constants");
        self.bar.set_style(style);
        self.bar.set_message(format!("{}{more}", self.what));
        if state == State::Runs {
            self.bar.reset_elapsed();
            self.bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            self.bar.disable_steady_tick();
        }
        self.bar.tick();
    }
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
        let inner = Inner {
            out: Box::new(out),
            terminal,
            list: Vec::new(),
            steps: None,
            phases: BTreeMap::new(),
        };
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

    fn begin(&mut self, plan: &Plan, recovering: bool) {
        let Some(bars) = &self.terminal else { return };
        let count = plan.steps().count();
        // A recovery does only what is left to do: nobody knows beforehand which steps those are.
        if count <= MOST_STEPS && !recovering {
            let lines = plan
                .steps()
                .map(|step| Line::new(bars.add(ProgressBar::new_spinner()), &step.effect.what));
            self.list = lines.collect();
            return;
        }
        let bar = bars.add(ProgressBar::new(count as u64)).with_prefix(plan.operation.clone());
        let look = "  {spinner} {prefix} [{bar:24}] {pos}/{len} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(look).expect("the template is a constant"));
        bar.enable_steady_tick(Duration::from_millis(100));
        self.steps = Some(bar);
    }

    /// The list stays as it is in the end; bars go.
    fn end(&mut self) {
        let bars = std::mem::take(&mut self.phases).into_values().chain(self.steps.take());
        bars.for_each(|bar| bar.finish_and_clear());
        for line in std::mem::take(&mut self.list) {
            line.bar.abandon();
        }
    }

    /// Turns a step of the list, the first or the last in one of these states; `false` if there is
    /// no such list.
    fn turn(&mut self, what: &str, from: &[State], to: State, more: &str) -> bool {
        if self.list.is_empty() {
            return false;
        }
        let fits = |line: &Line| line.what == what && from.contains(&line.state);
        // What goes back goes back in reverse.
        let found = match to {
            State::Undone | State::Stuck => self.list.iter().rposition(fits),
            _ => self.list.iter().position(fits),
        };
        if let Some(n) = found {
            self.list[n].turn(to, more);
        }
        true
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
        use State as S;
        let mut inner = self.lock();
        let took_ms = |took: &Duration| format!(" ({} ms)", took.as_millis());
        match event {
            Event::Began { plan, recovering, .. } => inner.begin(plan, *recovering),
            Event::StepStarted { step, .. } => {
                if let Some(bar) = &inner.steps {
                    bar.set_message(step.effect.what.clone());
                }
                // A finisher that failed is tried again.
                inner.turn(&step.effect.what, &[S::Waits, S::Failed], S::Runs, "");
            }
            Event::StepDone { step, took, .. } => {
                let what = &step.effect.what;
                if !inner.turn(what, &[S::Runs], S::Done, &took_ms(took)) {
                    inner.step("done", what, Some(*took));
                }
            }
            Event::StepFailed { step, error, .. } => {
                inner.turn(&step.effect.what, &[S::Runs], S::Failed, "");
                inner.line(&format!("  FAILED {}: {error}", step.effect.what));
            }
            Event::Aborting { .. } => inner.line("  going back"),
            Event::StepUndone { step, took, .. } => {
                let (what, from) = (&step.effect.what, [S::Done, S::Failed, S::Runs]);
                if !inner.turn(what, &from, S::Undone, &took_ms(took)) {
                    inner.step("undone", what, Some(*took));
                }
            }
            Event::UndoFailed { step, error, .. } => {
                let what = &step.effect.what;
                inner.turn(what, &[S::Done, S::Failed, S::Runs], S::Stuck, "");
                inner.line(&format!("  STUCK  undoing `{what}`: {error}"));
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
                (Unit::Bytes, Some(_)) => {
                    "    {prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}"
                }
                (Unit::Bytes, None) => "    {prefix} {bytes} {bytes_per_sec}",
                (Unit::Items, Some(_)) => "    {prefix} [{bar:24}] {pos}/{len} eta {eta}",
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
