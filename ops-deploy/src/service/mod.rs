//! How a release's service is described, run and identified.

mod detached;
mod holders;
mod log_tail;
mod process_id;
mod spec;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use detached::Detached;
pub(crate) use log_tail::log_tail;
pub use process_id::ProcessId;
pub(crate) use spec::fill;
pub use spec::{Identity, ServiceSpec};

use crate::error::Error;

/// One instance that is to run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Launch {
    /// The instance's folder, which exists: what the manager must remember lies here.
    pub folder: PathBuf,
    /// The program; a name without a slash is looked for in the `PATH` of `environment`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub working_dir: PathBuf,
    /// What it prints is appended here.
    pub log: PathBuf,
}

impl Launch {
    /// An instance with all that it is told.
    pub fn new(
        folder: impl Into<PathBuf>,
        program: impl Into<PathBuf>,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
        working_dir: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            folder: folder.into(),
            program: program.into(),
            arguments,
            environment,
            working_dir: working_dir.into(),
            log: log.into(),
        }
    }
}

/// Whether an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// It runs. The process is unknown while its start is not recorded yet.
    Running(Option<ProcessId>),
    /// The process that was started has ended, but others that it started live on.
    Orphans,
    /// Nothing of it runs.
    Stopped,
}

/// Starts and stops instances, each known by its folder alone, so that any process can stop what
/// another one started. Every method blocks, and may be repeated.
pub trait ServiceManager: Debug + Send + Sync {
    /// Starts an instance unless it runs already. When it returns, or the process is killed
    /// meanwhile, [`liveness`](Self::liveness) and [`stop`](Self::stop) know of whatever runs.
    ///
    /// # Errors
    /// If the program cannot be started, or the start not be recorded.
    fn start(&self, launch: &Launch) -> Result<(), Error>;

    /// Whether the instance of this folder runs.
    ///
    /// # Errors
    /// If it cannot be told.
    fn liveness(&self, folder: &Path) -> Result<Liveness, Error>;

    /// Stops the instance of this folder: asks it, and after `grace` ends it. No error if nothing
    /// runs, or the folder does not exist. A cancellation ends the grace, not the stopping.
    ///
    /// # Errors
    /// If something of it still runs.
    fn stop(&self, folder: &Path, grace: Duration, cancel: &CancellationToken)
    -> Result<(), Error>;
}
