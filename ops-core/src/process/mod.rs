//! Children: argv, environment allow-list, deadline, process group, drained and redacted output.
//!
//! ```
//! use ops_core::process::{Command, RunContext, Runner, SystemRunner};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let command = Command::new("git").args(["--version"]);
//! let output = SystemRunner.run(&command, &RunContext::default()).await?.success(&command)?;
//! assert!(output.stdout_text().starts_with("git version"));
//! # Ok::<(), ops_core::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - There is no shell: a program and its arguments, each one as it is.
//! - A child starts with a few variables of this process only, see [`Command::inherit_env`].
//! - It leads a process group. At its deadline, or when it is cancelled, the group gets TERM, a
//!   grace, then KILL. Whether it had its effect is then unknown, and the error says so.
//! - Its output is read all the while, redacted, and capped: the head and the tail are kept.
//! - A grandchild that outlives it and holds its output does not hold up the caller:
//!   [`Output::held_open`] tells of it.
//!
//! Limits: a grandchild that leaves the group (`setsid`) is not killed. Arguments can be read by
//! every user of the machine, so a secret goes into the environment ([`Command::secret_env`])
//! or to the standard input ([`Command::secret_stdin`]) where the program allows it.
//!
//! For tests, [`ScriptedRunner`] answers in place of the programs.

mod capture;
mod command;
mod group;
mod output;
mod scripted;
mod stop;
mod system;

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::Error;
use crate::saga::StepContext;
use crate::secret::Redactor;

pub use command::Command;
pub use output::{Output, Stream};
pub use scripted::{Reply, ScriptedRunner};
pub use system::SystemRunner;

/// Runs commands: [`SystemRunner`], or [`ScriptedRunner`] in tests.
pub trait Runner: Debug + Send + Sync {
    /// Runs a command to its end. That it ended with a code other than 0 is no error here: see
    /// [`Output::success`].
    ///
    /// Dropping the future kills the child's process group at once.
    ///
    /// # Errors
    /// `Process`: permanent if the program or the working folder is not there; `OutcomeUnknown` if
    /// the deadline passed or a cancellation came while it ran.
    fn run<'a>(
        &'a self,
        command: &'a Command,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Output, Error>>;
}

/// Sees what a child prints, line by line, while it runs.
pub trait OutputObserver: Debug + Send + Sync {
    /// A line, redacted, without its line break. A line of more than 64 KiB comes in pieces.
    ///
    /// Called from the task that reads the output: a slow observer slows the child. One that
    /// panics is not called again.
    fn line(&self, stream: Stream, line: &str);
}

/// What surrounds a command. Made from a [`Context`] or a [`StepContext`]: then it shares their
/// redactor and ends with their cancellation.
#[derive(Debug, Clone, Default)]
pub struct RunContext {
    pub(crate) redactor: Redactor,
    pub(crate) cancellation: CancellationToken,
    pub(crate) observer: Option<Arc<dyn OutputObserver>>,
}

impl RunContext {
    /// What every output passes. The secrets of each command are added to it. Default: one that
    /// knows nothing yet.
    pub fn redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// Ends the child when it is cancelled. Default: a token that nobody cancels.
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = token;
        self
    }

    /// Who sees each line. Default: nobody.
    pub fn observer(mut self, observer: impl OutputObserver + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }
}

impl From<&Context> for RunContext {
    fn from(cx: &Context) -> Self {
        Self::default().redactor(cx.redactor().clone()).cancellation(cx.cancellation().clone())
    }
}

impl From<&StepContext> for RunContext {
    fn from(cx: &StepContext) -> Self {
        Self::from(cx.context()).cancellation(cx.cancellation().clone())
    }
}
