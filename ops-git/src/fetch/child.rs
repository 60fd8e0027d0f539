//! A program that is talked to through pipes, and that never outlives its fetch.

use std::io::{self, Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::link::Link;
use crate::error::{Error, ErrorKind};

/// How long a program that was told to end may take before it is killed.
const END: Duration = Duration::from_millis(500);

/// How much of what it complains about is kept.
const COMPLAINTS: usize = 8 * 1024;

/// The variables of this process that it gets, and all that begin with `LC_`.
const INHERITED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// A running program. Dropping it ends its whole process group.
pub(super) struct Child {
    link: Arc<Link>,
    process: tokio::process::Child,
    group: Option<Pid>,
    complaints: Arc<Mutex<Vec<u8>>>,
}

impl Child {
    /// Starts a program of its own process group, with few variables of this process, and pipes.
    pub(super) fn start(
        link: &Arc<Link>,
        argv: &[String],
        env: &[(&str, String)],
    ) -> Result<(Self, Output, Input), Error> {
        let (program, arguments) = argv.split_first().expect("whoever calls names a program");
        let mut command = Command::new(program);
        let keep = |name: &str| INHERITED.contains(&name) || name.starts_with("LC_");
        let inherited = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(keep));
        command
            .args(arguments)
            .env_clear()
            .envs(inherited)
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let spawned = link.wait_anyway(async { command.spawn() });
        let mut child = spawned.map_err(|source| {
            Error::new(ErrorKind::Io, format!("`{program}` cannot be started"))
                .remedy("install it, or name another program")
                .caused_by(source)
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let complaints = Arc::new(Mutex::new(Vec::new()));
        if let Some(mut stderr) = child.stderr.take() {
            let complaints = Arc::clone(&complaints);
            link.spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                    let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
                    // The last words say most.
                    kept.extend_from_slice(&buffer[..read]);
                    let surplus = kept.len().saturating_sub(COMPLAINTS);
                    kept.drain(..surplus);
                }
            });
        }
        let output = Output { link: Arc::clone(link), pipe: child.stdout.take().expect("piped") };
        let input =
            Input { link: Arc::clone(link), pipe: Some(child.stdin.take().expect("piped")) };
        let link = Arc::clone(link);
        Ok((Self { link, process: child, group, complaints }, output, input))
    }

    /// Waits a moment for its end, and answers whether it ended well.
    pub(super) fn ended_well(&mut self) -> bool {
        let end = self.process.wait();
        let waited = self.link.wait_anyway(async { tokio::time::timeout(END, end).await });
        matches!(waited, Ok(Ok(status)) if status.success())
    }

    /// What it wrote to its standard error, without secrets. One that ends gets the time to do so.
    pub(super) fn complaints(&mut self) -> String {
        let end = async {
            let _ = self.process.wait().await;
            // Its last words may still be in the pipe.
            while Arc::strong_count(&self.complaints) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = self.link.wait_anyway(async { tokio::time::timeout(END, end).await });
        let kept = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        self.link.redactor.redact(&lines.join("; "))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only while it is not reaped: later its number may be somebody else's.
        let (Some(_), Some(group)) = (self.process.id(), self.group) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let begun = Instant::now();
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while begun.elapsed() < END && matches!(waitid(WaitId::Pid(group), look), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Whoever is left of its group has had its time, too.
        let _ = kill_process_group(group, Signal::KILL);
        let end = self.process.wait();
        let _ = self.link.wait_anyway(async { tokio::time::timeout(END, end).await });
    }
}

/// What the program writes.
pub(super) struct Output {
    link: Arc<Link>,
    pipe: ChildStdout,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.link.wait(self.pipe.read(buffer))?
    }
}

/// What the program reads.
pub(super) struct Input {
    link: Arc<Link>,
    pipe: Option<ChildStdin>,
}

impl Input {
    fn pipe(&mut self) -> io::Result<&mut ChildStdin> {
        self.pipe.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let link = Arc::clone(&self.link);
        link.wait(self.pipe()?.write(bytes))?
    }

    fn flush(&mut self) -> io::Result<()> {
        let link = Arc::clone(&self.link);
        link.wait(self.pipe()?.flush())?
    }
}
