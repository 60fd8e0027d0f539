//! Whether a program is content, by the exit codes of monitoring plugins.

use std::ffi::OsString;
use std::process::Stdio;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::process::Command;

use super::{Health, Probe};

/// Runs a program without arguments from a shell: exit code 0 is healthy, 1 and 2 are unhealthy,
/// everything else (3, a signal, a program that is not there) is unknown. These are the codes of
/// the monitoring-plugins guidelines, with a warning counted as unhealthy.
///
/// The program's output is not read; it is killed when the deadline of
/// [`observe`](super::observe) passes.
#[derive(Debug, Clone)]
pub struct CommandProbe {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
}

impl CommandProbe {
    /// Runs this program.
    pub fn new(name: impl Into<String>, program: impl Into<OsString>) -> Self {
        Self { name: name.into(), program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

impl Probe for CommandProbe {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments).process_group(0).kill_on_drop(true);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let program = self.program.to_string_lossy();
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return Health::unknown(format!("cannot run `{program}`: {error}")),
            };
            let group = KillGroup::of(&child);
            let ended = child.wait().await;
            drop(group);
            match ended.map(|status| status.code()) {
                Ok(Some(0)) => Health::Healthy,
                Ok(Some(code @ (1 | 2))) => {
                    Health::unhealthy(format!("`{program}` ended with exit code {code}"))
                }
                Ok(Some(code)) => {
                    Health::unknown(format!("`{program}` ended with exit code {code}"))
                }
                Ok(None) => Health::unknown(format!("`{program}` was ended by a signal")),
                Err(error) => Health::unknown(format!("`{program}` cannot be waited for: {error}")),
            }
        }
        .boxed()
    }
}

/// Kills what the program has started and left, when the probe ends or is dropped.
struct KillGroup(Option<rustix::process::Pid>);

impl KillGroup {
    fn of(child: &tokio::process::Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }
}

impl Drop for KillGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody is left in most cases.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
