//! Writes lines to files, from the thread that logs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ops_core::Clock;
use tracing::Level;

use super::active::{Active, Disturbed};
use super::loss::{Loss, Trouble};
use super::name::SegmentName;
use super::owner::Owner;
use super::retention::Retention;
use super::sweep;
use super::turn::{Limits, needs_new};
use crate::console::Console;
use crate::error::Error;
use crate::format::{Fields, Formatter, Line, Value};
use crate::sink::{Counts, Sink};
use crate::time::Zone;

/// After an error, lines are lost without a try for so long: a full disk costs no call per line.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How often it is looked whether the open file is still there.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often old files are looked for, besides whenever a file begins.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
    pub(crate) max_bytes: u64,
    pub(crate) daily: bool,
    pub(crate) retention: Retention,
    pub(crate) zone: Zone,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) formatter: Formatter,
    pub(crate) trouble: Console,
}

/// The files of one set, written under one mutex.
#[derive(Debug)]
pub(crate) struct FileSink {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    owner: Owner,
    active: Option<Active>,
    counts: Counts,
    loss: Option<Loss>,
    trouble: Trouble,
    /// Why nothing is tried until then.
    pause: Option<(Duration, String)>,
    /// A file that is full is used on until then, because the next one could not be opened.
    no_turn_until: Duration,
    check_at: Duration,
    sweep_at: Duration,
}

impl FileSink {
    /// Takes the folder and opens the file to write.
    pub(crate) fn open(settings: Settings) -> Result<Self, Error> {
        let folder = &settings.directory;
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io("create the log folder", folder, e))?;
        let owner = Owner::acquire(folder, &settings.prefix)
            .map_err(|e| Error::io("take the lock of the log folder", folder, e))?;
        let mut state = State {
            owner,
            active: None,
            counts: Counts::default(),
            loss: None,
            trouble: Trouble::new(settings.trouble),
            pause: None,
            no_turn_until: Duration::ZERO,
            check_at: Duration::ZERO,
            sweep_at: Duration::ZERO,
        };
        let now = settings.clock.now();
        let elapsed = settings.clock.elapsed();
        let opened = state.begin(&settings, now, true);
        opened.map_err(|e| Error::io("open a log file in", &settings.directory, e))?;
        state.check_at = elapsed + CHECK_EVERY;
        state.sweep(&settings, now, elapsed);
        Ok(Self { settings, state: Mutex::new(state) })
    }

    pub(crate) fn active_file(&self) -> Option<PathBuf> {
        self.state().active.as_ref().map(|active| active.path.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of a caller runs under the lock, and each field is whole between two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for FileSink {
    fn write(&self, now: Timestamp, line: &[u8]) {
        let elapsed = self.settings.clock.elapsed();
        let mut state = self.state();
        state.counts.emitted += 1;
        match state.try_write(&self.settings, now, elapsed, line) {
            Ok(()) => state.counts.written += 1,
            Err(reason) => {
                state.counts.dropped += 1;
                Loss::add(&mut state.loss, now, &reason);
                let lost = state.counts.dropped;
                let directory = self.settings.directory.display();
                let what = format!("cannot write to `{directory}`: {reason} ({lost} lines lost)");
                state.trouble.tell(elapsed, &what);
            }
        }
    }

    fn flush(&self) {
        let elapsed = self.settings.clock.elapsed();
        let now = self.settings.clock.now();
        let mut state = self.state();
        state.pause = None;
        let mut result = state.ready(&self.settings, now, elapsed, 0);
        if let (Ok(()), Some(active)) = (&result, &state.active) {
            result = active.sync();
        }
        if let Err(error) = result {
            let directory = self.settings.directory.display();
            state.trouble.tell(elapsed, &format!("cannot flush to `{directory}`: {error}"));
        }
    }

    fn counts(&self) -> Counts {
        self.state().counts
    }
}

impl State {
    fn try_write(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        elapsed: Duration,
        line: &[u8],
    ) -> Result<(), String> {
        if let Some((until, reason)) = &self.pause
            && elapsed < *until
        {
            return Err(reason.clone());
        }
        let result = self.ready(settings, now, elapsed, line.len() as u64).and_then(|()| {
            let active = self.active.as_mut().ok_or(io::ErrorKind::NotFound)?;
            active.append(line)
        });
        match result {
            Ok(()) => {
                self.pause = None;
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                self.pause = Some((elapsed + RETRY_AFTER, reason.clone()));
                Err(reason)
            }
        }
    }

    /// Makes the right file the open one, and says in it what was lost.
    fn ready(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        elapsed: Duration,
        incoming: u64,
    ) -> io::Result<()> {
        if elapsed >= self.check_at {
            self.check(settings, now, elapsed);
        }
        if self.active.is_none() {
            self.begin(settings, now, false)?;
            self.sweep(settings, now, elapsed);
        }
        if elapsed >= self.no_turn_until && self.is_over(settings, now, incoming) {
            if let Err(error) = self.begin(settings, now, false) {
                // Better in a file that is too large than nowhere.
                self.no_turn_until = elapsed + CHECK_EVERY;
                let directory = settings.directory.display();
                let what = format!("cannot begin a new file in `{directory}`: {error}");
                self.trouble.tell(elapsed, &what);
            }
            self.sweep(settings, now, elapsed);
        } else if elapsed >= self.sweep_at {
            self.sweep(settings, now, elapsed);
        }
        if let Some(loss) = self.loss.clone() {
            let text = format!(
                "lines_lost={} from={} to={} reason={:?}",
                loss.lines,
                settings.zone.stamp(loss.from),
                settings.zone.stamp(loss.to),
                loss.reason,
            );
            self.notice(settings, now, &text)?;
            self.loss = None;
        }
        Ok(())
    }

    fn is_over(&self, settings: &Settings, now: Timestamp, incoming: u64) -> bool {
        let Some(active) = &self.active else { return false };
        let limits = Limits { max_bytes: settings.max_bytes, daily: settings.daily };
        needs_new(limits, active.name.day, active.bytes, settings.zone.day(now), incoming)
    }

    /// Notices what somebody else did to the open file.
    fn check(&mut self, settings: &Settings, now: Timestamp, elapsed: Duration) {
        self.check_at = elapsed + CHECK_EVERY;
        let Some(active) = &mut self.active else { return };
        let file = active.name.to_string();
        let what = match active.disturbed() {
            None => return,
            Some(Disturbed::Truncated) => format!("log_file_truncated file={file}"),
            Some(Disturbed::Gone) => {
                self.active = None;
                if let Err(error) = self.begin(settings, now, false) {
                    self.trouble.tell(elapsed, &format!("cannot begin a new log file: {error}"));
                }
                format!("log_file_gone file={file}")
            }
        };
        // A file that cannot take it will not take the line that comes next either, and that is
        // counted.
        let _ = self.notice(settings, now, &what);
    }

    /// Begins a file: the newest of an earlier run if it may be used on, else a new one. The one
    /// that was open stays so if this fails.
    fn begin(&mut self, settings: &Settings, now: Timestamp, resume: bool) -> io::Result<()> {
        let folder = &settings.directory;
        std::fs::create_dir_all(folder)?;
        if !self.owner.holds() {
            self.owner = Owner::acquire(folder, &settings.prefix)?;
        }
        let segments = sweep::list(folder, &settings.prefix)?;
        let mine = segments.iter().filter(|segment| segment.name.set == self.owner.set);
        let newest = mine.max_by_key(|segment| segment.name.sequence);
        if let Some(newest) = newest.filter(|_| resume) {
            // One that cannot be opened, such as another user's, is left as it is.
            self.active = Active::resume(folder, newest.name.clone()).ok();
            if self.active.is_some() && !self.is_over(settings, now, 1) {
                return Ok(());
            }
        }
        let last = newest.map_or(0, |segment| segment.name.sequence);
        let last = last.max(self.active.as_ref().map_or(0, |active| active.name.sequence));
        let sequence = last.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let name =
            SegmentName { set: self.owner.set.clone(), day: settings.zone.day(now), sequence };
        let next = Active::create(folder, name)?;
        if let Some(closed) = self.active.replace(next) {
            // Its lines were taken by the kernel; a disk that refuses them now says so to all.
            let _ = closed.sync();
        }
        Ok(())
    }

    fn sweep(&mut self, settings: &Settings, now: Timestamp, elapsed: Duration) {
        self.sweep_at = elapsed + SWEEP_EVERY;
        let open = self.active.as_ref().map(|active| &active.name);
        let today = settings.zone.day(now);
        let folder = &settings.directory;
        if let Err(error) =
            sweep::remove_expired(folder, &self.owner, open, settings.retention, today)
        {
            let what = format!("cannot remove old files in `{}`: {error}", folder.display());
            self.trouble.tell(elapsed, &what);
        }
    }

    /// Writes a line of logging's own, which is not counted.
    fn notice(&mut self, settings: &Settings, now: Timestamp, text: &str) -> io::Result<()> {
        let mut fields = Fields::default();
        fields.set("message", Value::Text(text.to_owned()));
        let line = Line {
            at: &settings.zone.stamp(now),
            level: Level::WARN,
            target: "ops_logging",
            fields: &fields,
            spans: &[],
        };
        let mut out = String::new();
        settings.formatter.write(&mut out, &line);
        self.active.as_mut().ok_or(io::ErrorKind::NotFound)?.append(out.as_bytes())
    }
}
