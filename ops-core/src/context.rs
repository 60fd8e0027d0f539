//! What surrounds operations: where they run, who approves, where the journals lie, who hears.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::approval::{ApproveNothing, Approver};
use crate::clock::{Clock, SystemClock};
use crate::environment::Environment;
use crate::event::{MetricsObserver, Observer, TraceObserver};
use crate::journal::{JournalIo, SystemIo};
use crate::progress::{NoProgress, Progress};
use crate::reporter::Reporter;
use crate::secret::Redactor;

/// What surrounds operations. Cheap to clone.
///
/// The default is safe and needs nothing but a directory for its state: the environment is
/// production, nothing is approved, the operation has an hour until its commit.
///
/// ```
/// use ops_core::{Context, Environment};
/// # let dir = tempfile::tempdir()?;
/// let cx = Context::builder(dir.path()).environment(Environment::Development).build();
/// assert_eq!(cx.environment(), Environment::Development);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Context(pub(crate) Arc<Settings>);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub state_dir: PathBuf,
    pub program: String,
    pub environment: Environment,
    pub approver: Arc<dyn Approver>,
    pub reporters: Vec<Arc<dyn Reporter>>,
    pub reporter_budget: Duration,
    pub observers: Vec<Arc<dyn Observer>>,
    pub progress: Arc<dyn Progress>,
    pub clock: Arc<dyn Clock>,
    pub redactor: Redactor,
    pub cancellation: CancellationToken,
    pub deadline: Duration,
    pub step_grace: Duration,
    pub undo_budget: Duration,
    pub finish_budget: Duration,
    pub journal_io: Arc<dyn JournalIo>,
}

impl Context {
    /// The safe default: production, nothing approved. The directory is created when it is needed.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self::builder(state_dir).build()
    }

    /// Starts from the safe default.
    pub fn builder(state_dir: impl Into<PathBuf>) -> ContextBuilder {
        ContextBuilder(Settings {
            state_dir: state_dir.into(),
            program: "ops".to_owned(),
            environment: Environment::default(),
            approver: Arc::new(ApproveNothing),
            reporters: Vec::new(),
            reporter_budget: Duration::from_secs(5),
            observers: vec![Arc::new(TraceObserver), Arc::new(MetricsObserver)],
            progress: Arc::new(NoProgress),
            clock: Arc::new(SystemClock::new()),
            redactor: Redactor::default(),
            cancellation: CancellationToken::new(),
            deadline: Duration::from_secs(60 * 60),
            step_grace: Duration::from_secs(10),
            undo_budget: Duration::from_secs(5 * 60),
            finish_budget: Duration::from_secs(30),
            journal_io: Arc::new(SystemIo),
        })
    }

    /// Where journals, locks and reports lie.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// Where operations run.
    pub fn environment(&self) -> Environment {
        self.0.environment
    }

    /// The time source.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Where long work says how far it is.
    pub fn progress(&self) -> &Arc<dyn Progress> {
        &self.0.progress
    }

    /// What every output passes; secrets are added to it.
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// Stops operations: before the next step, and the step that runs is asked to end.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// The same surroundings with a cancellation of its own, which the old one's also triggers.
    pub fn child(&self) -> Self {
        let mut settings = (*self.0).clone();
        settings.cancellation = self.0.cancellation.child_token();
        Self(Arc::new(settings))
    }

    /// Calls that go around a guard, under one name that can be searched for.
    pub fn dangerous(&self) -> Dangerous<'_> {
        Dangerous(self)
    }
}

/// Calls that go around a guard. See [`Context::dangerous`].
#[derive(Debug)]
pub struct Dangerous<'a>(pub(crate) &'a Context);

/// Changes the defaults of a [`Context`].
#[derive(Debug, Clone)]
#[must_use = "call `build`"]
pub struct ContextBuilder(Settings);

impl ContextBuilder {
    /// Where operations run. Default: production.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.0.environment = environment;
        self
    }

    /// Who approves what needs an approval. Default: nobody.
    pub fn approver(mut self, approver: impl Approver + 'static) -> Self {
        self.0.approver = Arc::new(approver);
        self
    }

    /// The name that stands in journals, and whose journals `recover` takes up. Programs that
    /// recover each other's operations share it. Default: `ops`.
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.0.program = program.into();
        self
    }

    /// Adds one who hears every report. Default: none.
    pub fn reporter(mut self, reporter: impl Reporter + 'static) -> Self {
        self.0.reporters.push(Arc::new(reporter));
        self
    }

    /// How long the reporters, all at once, may delay the end of an operation. Default: 5 s.
    pub fn reporter_budget(mut self, budget: Duration) -> Self {
        self.0.reporter_budget = budget;
        self
    }

    /// Adds one who sees every event. Default: `tracing` and `metrics`.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.0.observers.push(Arc::new(observer));
        self
    }

    /// Where long work says how far it is. Default: nowhere.
    pub fn progress(mut self, progress: impl Progress + 'static) -> Self {
        self.0.progress = Arc::new(progress);
        self
    }

    /// The time source. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// What every output passes. Share one with the logging, so that it knows the same secrets.
    pub fn redactor(mut self, redactor: Redactor) -> Self {
        self.0.redactor = redactor;
        self
    }

    /// Stops operations when it is cancelled. Default: a token that nobody cancels.
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.0.cancellation = token;
        self
    }

    /// How long an operation may take until its commit; a plan can ask for less. Default: 1 h.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.deadline = deadline;
        self
    }

    /// How long a step that was asked to end may take before it is dropped. Default: 10 s.
    pub fn step_grace(mut self, grace: Duration) -> Self {
        self.0.step_grace = grace;
        self
    }

    /// How long going back may take, all undos and their retries together. Default: 5 min.
    pub fn undo_budget(mut self, budget: Duration) -> Self {
        self.0.undo_budget = budget;
        self
    }

    /// How long each finisher is repeated before it is left to `recover`. Default: 30 s.
    pub fn finish_budget(mut self, budget: Duration) -> Self {
        self.0.finish_budget = budget;
        self
    }

    /// How journals reach the disk. For tests that let it fail. Default: the system's calls.
    pub fn journal_io(mut self, io: impl JournalIo + 'static) -> Self {
        self.0.journal_io = Arc::new(io);
        self
    }

    /// The context.
    pub fn build(self) -> Context {
        Context(Arc::new(self.0))
    }
}
