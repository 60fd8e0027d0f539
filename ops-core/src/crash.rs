//! The crash harness: kills a real program at every place where it can be killed, recovers it in a
//! new process, and hands what is left to a check. For the tests of whoever writes steps.
//!
//! A *place* is each boundary of a journal record (before it, in the middle of its line, after it)
//! and each [`StepContext::fault_point`](crate::StepContext::fault_point) of yours, between the
//! halves of an effect. The harness runs your operation in a child process that kills itself with
//! SIGKILL at place 1, then again from the start at place 2, and so on until it completes; after
//! each kill it runs your recovery, and kills that too at each of its places.
//!
//! ```no_run
//! use std::process::Command;
//! use ops_core::crash::{CrashTest, State};
//!
//! # fn example() -> Result<(), String> {
//! let summary = CrashTest::new()
//!     .setup(|dir| { std::fs::write(dir.join("a"), "old").map_err(|e| e.to_string()) })
//!     .operation(|dir| { let mut c = Command::new("my-operation"); c.arg(dir); c })
//!     .recovery(|dir| { let mut c = Command::new("my-recovery"); c.arg(dir); c })
//!     .check(|dir| match std::fs::read_to_string(dir.join("a")).as_deref() {
//!         Ok("old") => Ok(State::Old),
//!         Ok("new") => Ok(State::New),
//!         other => Err(format!("between: {other:?}")),
//!     })
//!     .run()?;
//! assert!(summary.old > 0 && summary.new > 0);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The environment variable that says at which place a process kills itself, from 1.
pub const CRASH_AT: &str = "OPS_CRASH_AT";
/// The environment variable that names the file into which it writes that place's name.
pub const CRASH_NAME: &str = "OPS_CRASH_NAME";

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything is as before the operation.
    Old,
    /// Everything is as the operation wants it.
    New,
}

/// What a whole run of the harness saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// At how many places the operation was killed.
    pub kills: u64,
    /// At how many places a recovery was killed.
    pub recovery_kills: u64,
    /// How often the old state was found.
    pub old: u64,
    /// How often the new state was found.
    pub new: u64,
    /// How often each place was hit, by its name.
    pub places: BTreeMap<String, u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, recovery_kills, old, new, places } = self;
        write!(
            f,
            "{kills} kills, {recovery_kills} kills of a recovery, {} kinds of place: ",
            places.len()
        )?;
        write!(f, "{old} times the old state, {new} times the new one")
    }
}

type Setup = Box<dyn Fn(&Path) -> Result<(), String>>;
type Program = Box<dyn Fn(&Path) -> Command>;
type Check = Box<dyn Fn(&Path) -> Result<State, String>>;

/// A crash test; see the module's example.
#[must_use = "call `run`"]
pub struct CrashTest {
    setup: Setup,
    operation: Program,
    recovery: Program,
    check: Check,
    teardown: Box<dyn Fn(&Path)>,
    deadline: Duration,
    first: u64,
    every: u64,
    recovery_every: u64,
    may_fail: bool,
}

impl fmt::Debug for CrashTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Default for CrashTest {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashTest {
    /// An empty test: set up at least `operation`, `recovery` and `check`.
    pub fn new() -> Self {
        Self {
            setup: Box::new(|_| Ok(())),
            operation: Box::new(|_| Command::new("false")),
            recovery: Box::new(|_| Command::new("false")),
            check: Box::new(|_| Err("no check is set up".into())),
            teardown: Box::new(|_| ()),
            deadline: Duration::from_mins(1),
            first: 1,
            every: 1,
            recovery_every: 1,
            may_fail: false,
        }
    }

    /// Makes the old state in an empty directory.
    pub fn setup(mut self, setup: impl Fn(&Path) -> Result<(), String> + 'static) -> Self {
        self.setup = Box::new(setup);
        self
    }

    /// The program that runs the operation.
    pub fn operation(mut self, program: impl Fn(&Path) -> Command + 'static) -> Self {
        self.operation = Box::new(program);
        self
    }

    /// The program that recovers; it may be another binary, which knows the journal and the
    /// environment only.
    pub fn recovery(mut self, program: impl Fn(&Path) -> Command + 'static) -> Self {
        self.recovery = Box::new(program);
        self
    }

    /// Says which state is there; an error is a state between the two.
    pub fn check(mut self, check: impl Fn(&Path) -> Result<State, String> + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Cleans up what a directory does not hold, such as processes, after each round.
    pub fn teardown(mut self, teardown: impl Fn(&Path) + 'static) -> Self {
        self.teardown = Box::new(teardown);
        self
    }

    /// How long each process may take. Default: 60 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Kills at this place first, counted from 1: with [`every`](Self::every), several threads share
    /// the places of a slow operation. Default: 1.
    pub fn first(mut self, place: u64) -> Self {
        self.first = place.max(1);
        self
    }

    /// Kills the operation at every n-th place only, for operations that take long. Default: 1.
    pub fn every(mut self, n: u64) -> Self {
        self.every = n.max(1);
        self
    }

    /// Kills each recovery at every n-th of its places only, beginning one place later for each
    /// place of the operation, so that neighbours cover what is left out. Default: 1.
    pub fn recovery_every(mut self, n: u64) -> Self {
        self.recovery_every = n.max(1);
        self
    }

    /// Accepts that the operation, when it is not killed, exits with an error: for operations that
    /// are meant to go back, so that the undo is killed too.
    pub fn operation_may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Runs all rounds.
    ///
    /// # Errors
    /// The first round whose recovery failed or whose check found neither state, with the places
    /// of its kills.
    pub fn run(&self) -> Result<Summary, String> {
        let mut summary = Summary::default();
        let mut at = self.first;
        loop {
            let mut recovery_at = Some(at % self.recovery_every + 1);
            while let Some(kill) = recovery_at {
                match self.round(at, kill, &mut summary)? {
                    Round::OperationCompleted => return Ok(summary),
                    Round::RecoveryKilled => recovery_at = Some(kill + self.recovery_every),
                    Round::RecoveryCompleted => recovery_at = None,
                }
            }
            summary.kills += 1;
            at += self.every;
        }
    }

    fn round(&self, at: u64, recovery_at: u64, summary: &mut Summary) -> Result<Round, String> {
        let dir = scratch()?;
        let result = self.round_in(dir.path(), at, recovery_at, summary);
        (self.teardown)(dir.path());
        result
    }

    fn round_in(
        &self,
        dir: &Path,
        at: u64,
        recovery_at: u64,
        summary: &mut Summary,
    ) -> Result<Round, String> {
        (self.setup)(dir).map_err(|e| format!("the setup failed: {e}"))?;
        let operation = self.execute((self.operation)(dir), Some(at))?;
        if !operation.killed {
            if !operation.success && !self.may_fail {
                return Err(format!("the operation failed without a kill: {}", operation.output));
            }
            self.judge(dir, summary, || {
                format!("the operation ended (place {at} is past its end)")
            })?;
            return Ok(Round::OperationCompleted);
        }
        *summary.places.entry(operation.place.clone()).or_default() += 1;
        let first = self.execute((self.recovery)(dir), Some(recovery_at))?;
        let story = || format!("killed at place {at} (`{}`)", operation.place);
        if !first.killed {
            if !first.success {
                return Err(format!("{}, the recovery failed: {}", story(), first.output));
            }
            self.judge(dir, summary, story)?;
            return Ok(Round::RecoveryCompleted);
        }
        summary.recovery_kills += 1;
        *summary.places.entry(first.place.clone()).or_default() += 1;
        let story =
            || format!("{}, recovery killed at place {recovery_at} (`{}`)", story(), first.place);
        let second = self.execute((self.recovery)(dir), None)?;
        if !second.success {
            return Err(format!("{}, the next recovery failed: {}", story(), second.output));
        }
        self.judge(dir, summary, story)?;
        Ok(Round::RecoveryKilled)
    }

    fn judge(
        &self,
        dir: &Path,
        summary: &mut Summary,
        story: impl Fn() -> String,
    ) -> Result<(), String> {
        match (self.check)(dir) {
            Ok(State::Old) => summary.old += 1,
            Ok(State::New) => summary.new += 1,
            Err(found) => return Err(format!("{}: {found}", story())),
        }
        Ok(())
    }

    fn execute(&self, mut command: Command, at: Option<u64>) -> Result<Ended, String> {
        let scratch = scratch()?;
        let place = scratch.path().join("place");
        let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
        command.env_remove(CRASH_AT).env_remove(CRASH_NAME);
        if let Some(at) = at {
            command.env(CRASH_AT, at.to_string()).env(CRASH_NAME, &place);
        }
        // Into files, so that a service that outlives the process holds no pipe of ours.
        let open = |path: &Path| std::fs::File::create(path).map_err(|e| e.to_string());
        command.stdin(Stdio::null()).stdout(open(&out)?).stderr(open(&err)?);
        let mut child = command.spawn().map_err(|e| format!("cannot start {command:?}: {e}"))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if started.elapsed() > self.deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{command:?} did not end within {:?}", self.deadline));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let read = |path: &Path| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        Ok(Ended {
            killed: was_killed(status) && place.exists(),
            success: status.success(),
            place: read(&place),
            output: format!("{status}\n{}{}", read(&out), read(&err)),
        })
    }
}

/// A temporary directory, in memory where the machine offers that: what SIGKILL leaves behind does
/// not depend on the disk, and thousands of rounds do.
fn scratch() -> Result<tempfile::TempDir, String> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).map_err(|e| format!("no temporary directory: {e}"))
}

enum Round {
    OperationCompleted,
    RecoveryKilled,
    RecoveryCompleted,
}

struct Ended {
    killed: bool,
    success: bool,
    place: String,
    output: String,
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(9)
}
