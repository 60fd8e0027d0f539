//! What happens, for a person who watches: a live list of the steps on a terminal, plain lines
//! elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    DecimalBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget,
    ProgressStyle,
};
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
    /// Where there is no terminal: when each phase began, and when it was last told.
    told: BTreeMap<String, (Instant, Instant)>,
    every: Duration,
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
            told: BTreeMap::new(),
            every: Duration::from_secs(10),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Where there is no terminal, how often a line tells how far a phase is. Default: 10 s.
    pub fn lines_every(self, every: Duration) -> Self {
        self.lock().every = every;
        self
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

    /// For a log: how far it is, how quickly it goes, and how long it will take.
    fn tell(&mut self, update: &Update) {
        let now = Instant::now();
        let (begun, last) = self.told.entry(update.phase.clone()).or_insert((now, now));
        let is_end = update.total == Some(update.done);
        // What was over before it was worth a line is worth none.
        if last.elapsed() < self.every || is_end && begun == last && !self.every.is_zero() {
            return;
        }
        *last = now;
        let begun = *begun;
        self.line(&format!("  {}", described(update, begun.elapsed())));
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
        self.told.clear();
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
        if inner.terminal.is_none() {
            inner.tell(update);
        }
        let Inner { terminal: Some(bars), phases, .. } = &mut *inner else { return };
        let bar = phases.entry(update.phase.clone()).or_insert_with(|| {
            let look = match (update.unit, update.total) {
                (Unit::Bytes, Some(_)) => {
                    "    {prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}"
                }
                (Unit::Bytes, None) => "    {prefix} {bytes} {bytes_per_sec}",
                (Unit::Items, Some(_)) => {
                    "    {prefix} [{bar:24}] {human_pos}/{human_len} {per_sec} eta {eta}"
                }
                (Unit::Items, None) => "    {prefix} {human_pos} {per_sec}",
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

/// `backing up nightly: 1.20 GB of 3.60 GB, 80.00 MB/s, 30 seconds left`.
fn described(update: &Update, elapsed: Duration) -> String {
    let amount = |amount: u64| match update.unit {
        Unit::Bytes => DecimalBytes(amount).to_string(),
        Unit::Items => HumanCount(amount).to_string(),
    };
    let Update { phase, done, total, .. } = update;
    let of = total.map(|total| format!(" of {}", amount(total))).unwrap_or_default();
    let text = format!("{phase}: {}{of}", amount(*done));
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let Some(rate) = done.saturating_mul(1000).checked_div(milliseconds).filter(|rate| *rate > 0)
    else {
        return text;
    };
    let left = total.map(|total| total.saturating_sub(*done)).filter(|left| *left > 0);
    let left = left.map(|left| HumanDuration(Duration::from_secs(left.div_ceil(rate))));
    let left = left.map(|left| format!(", {left} left")).unwrap_or_default();
    format!("{text}, {}/s{left}", amount(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_tells_rate_and_remaining_time() {
        let check = |update: Update, seconds: u64, expected: &str| {
            assert_eq!(described(&update, Duration::from_secs(seconds)), expected);
        };
        let half = Update::bytes("backing up s", 1_200_000_000, Some(3_600_000_000));
        check(half, 15, "backing up s: 1.20 GB of 3.60 GB, 80.00 MB/s, 30 seconds left");
        check(Update::bytes("backing up s", 500, None), 1, "backing up s: 500 B, 500 B/s");
        check(
            Update::items("rows of s", 20_000, Some(20_000)),
            4,
            "rows of s: 20,000 of 20,000, 5,000/s",
        );
        check(Update::items("tables of s", 0, Some(7)), 4, "tables of s: 0 of 7");
    }

    #[test]
    fn without_a_terminal_a_line_comes_now_and_then() {
        let out = Out::default();
        let lines = || String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let update = Update::items("rows of s", 3, Some(7));
        Bars::new(out.clone(), false).update(&update);
        assert_eq!(lines(), "");
        Bars::new(out.clone(), false).lines_every(Duration::ZERO).update(&update);
        assert!(lines().starts_with("  rows of s: 3 of 7"), "{}", lines());
    }
}
