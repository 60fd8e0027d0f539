//! Whether a program is content, by the exit codes of monitoring plugins.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};

use super::{Health, Probe};
use crate::process::{Command, Output, RunContext, Runner, SystemRunner};

/// How much of a program's output is kept.
const OUTPUT_CAP: usize = 4 * 1024;

/// Runs a program: exit code 0 is healthy, 1 and 2 are unhealthy, everything else (3, a signal, a
/// program that is not there) is unknown. These are the codes of the monitoring-plugins guidelines,
/// with a warning counted as unhealthy; as there, the first line of the standard output is the
/// reason.
///
/// When the deadline of [`observe`](super::observe) passes it is killed, and in any case all that it
/// has started in its process group.
#[derive(Debug, Clone)]
pub struct CommandProbe {
    name: String,
    command: Command,
    runner: Arc<dyn Runner>,
}

impl CommandProbe {
    /// Runs this command.
    pub fn new(name: impl Into<String>, command: Command) -> Self {
        let command = command.output_cap(OUTPUT_CAP).kill_remaining();
        Self { name: name.into(), command, runner: Arc::new(SystemRunner) }
    }

    /// Runs it by another runner, such as a scripted one.
    pub fn runner(mut self, runner: impl Runner + 'static) -> Self {
        self.runner = Arc::new(runner);
        self
    }
}

impl Probe for CommandProbe {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            match self.runner.run(&self.command, &RunContext::default()).await {
                Ok(output) => judge(&output),
                Err(error) => Health::unknown(crate::error::chain(&error).join(": ")),
            }
        }
        .boxed()
    }
}

fn judge(output: &Output) -> Health {
    let said = output.stdout_text();
    let said = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
    match (output.code, output.signal) {
        (Some(0), _) => Health::Healthy,
        (Some(code @ (1 | 2)), _) => Health::unhealthy(format!("exit code {code}{said}")),
        (Some(code), _) => Health::unknown(format!("exit code {code}{said}")),
        (None, Some(signal)) => Health::unknown(format!("ended by signal {signal}")),
        (None, None) => Health::unknown("how it ended cannot be had"),
    }
}
