//! Runs commands as real processes.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::capture::Capture;
use super::command::Command;
use super::group;
use super::output::{Output, Stream};
use super::stop::Stop;
use super::{RunContext, Runner};
use crate::error::{Class, Classify as _, Error, ErrorKind};

/// How long output is still read after the child has ended: more than this only a grandchild
/// writes.
const DRAIN: Duration = Duration::from_secs(1);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(5);

/// Runs commands as real processes. Needs a tokio runtime with I/O and time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run<'a>(
        &'a self,
        command: &'a Command,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Output, Error>> {
        Box::pin(async move {
            command.teach(&cx.redactor);
            if cx.cancellation.is_cancelled() {
                return Err(Stop::before(command));
            }
            if let Some(folder) = &command.cwd
                && !tokio::fs::metadata(folder).await.is_ok_and(|found| found.is_dir())
            {
                let folder = cx.redactor.redact(&folder.to_string_lossy());
                let message =
                    format!("the working folder `{folder}` of `{}` is no folder", command.name());
                return Err(Error::new(ErrorKind::Process, message).remedy("create it first"));
            }
            Running::start(command, cx)?.until_it_ends().await
        })
    }
}

struct Running<'a> {
    command: &'a Command,
    cx: &'a RunContext,
    started: Instant,
    child: Child,
    stdout: Arc<Mutex<Capture>>,
    stderr: Arc<Mutex<Capture>>,
    readers: JoinSet<()>,
    /// Ends with the child: a program need not read all that it is given.
    _writer: JoinSet<()>,
}

impl<'a> Running<'a> {
    fn start(command: &'a Command, cx: &'a RunContext) -> Result<Self, Error> {
        let env = command.real_env(std::env::vars_os());
        let mut spawning = tokio::process::Command::new(command.program());
        spawning
            .args(command.real_args())
            .env_clear()
            .envs(&env)
            .stdin(if command.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &command.cwd {
            spawning.current_dir(folder);
        }
        let started = Instant::now();
        let mut child = spawning.spawn().map_err(|source| {
            let name = command.name();
            if source.kind() == std::io::ErrorKind::NotFound {
                let path = env.get(std::ffi::OsStr::new("PATH"));
                let path = path.map(|path| cx.redactor.redact(&path.to_string_lossy()));
                return Error::new(
                    ErrorKind::Process,
                    format!("the program `{name}` is not found"),
                )
                .with("PATH", path.as_deref().unwrap_or("not set"))
                .remedy("install it, or give its path")
                .caused_by(source);
            }
            let class = match source.kind() {
                // Somebody is still writing the program.
                std::io::ErrorKind::ExecutableFileBusy => Class::Temporary,
                _ => source.class(),
            };
            Error::new(ErrorKind::Process, format!("`{name}` cannot be started"))
                .class_of(class)
                .caused_by(source)
        })?;
        let capture = |stream| Arc::new(Mutex::new(Capture::new(stream, command.output_cap, cx)));
        let (stdout, stderr) = (capture(Stream::Stdout), capture(Stream::Stderr));
        let mut readers = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(read(pipe, stdout.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(read(pipe, stderr.clone()));
        }
        let mut writer = JoinSet::new();
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = command.stdin.clone();
            // A program that does not read it all is within its rights.
            writer.spawn(async move {
                let _ = pipe.write_all(&bytes).await;
            });
        }
        Ok(Self { command, cx, started, child, stdout, stderr, readers, _writer: writer })
    }

    async fn until_it_ends(mut self) -> Result<Output, Error> {
        let stopped = match self.leader() {
            Some(leader) => {
                let stopped = tokio::select! {
                    biased;
                    () = group::ended(leader) => None,
                    stop = Stop::of(self.command, self.cx) => Some(stop),
                };
                if stopped.is_some() {
                    self.stop(leader).await;
                } else if self.command.kill_remaining {
                    group::signal(leader, Signal::KILL);
                }
                stopped
            }
            None => None,
        };
        let duration = self.started.elapsed();
        let held_open = timeout(DRAIN, self.output_closed()).await.is_err();
        self.readers.shutdown().await;
        let reaped = timeout(KILLED, self.child.wait()).await;
        let finish = |capture: &Mutex<Capture>| {
            capture.lock().unwrap_or_else(PoisonError::into_inner).finish()
        };
        let (stdout, stdout_cut) = finish(&self.stdout);
        let (stderr, stderr_cut) = finish(&self.stderr);
        let mut output = Output {
            stdout,
            stderr,
            duration,
            truncated: stdout_cut || stderr_cut,
            held_open,
            ..Output::default()
        };
        if let Some(stop) = stopped {
            let error = stop.error(self.command, &output);
            return Err(if reaped.is_err() {
                error.remedy("it is stuck in the kernel and cannot be killed: see `ps`")
            } else {
                error
            });
        }
        let name = self.command.name();
        let unknown =
            |what: String| Error::new(ErrorKind::Process, what).class_of(Class::OutcomeUnknown);
        let status = reaped
            .map_err(|_| unknown(format!("`{name}` has ended, but its code cannot be had")))?
            .map_err(|source| {
                unknown(format!("how `{name}` ended cannot be had")).caused_by(source)
            })?;
        (output.code, output.signal) = (status.code(), status.signal());
        Ok(output)
    }

    /// TERM, then KILL when the grace is over. The group has the whole grace while any of it holds
    /// the output open, for the child's own children may be the ones that tidy up.
    async fn stop(&mut self, leader: Pid) {
        group::signal(leader, Signal::TERM);
        // What is stopped would not hear it.
        group::signal(leader, Signal::CONT);
        let grace = self.command.grace;
        let gone = async {
            group::ended(leader).await;
            self.output_closed().await;
        };
        let _ = timeout(grace, gone).await;
        group::signal(leader, Signal::KILL);
        let _ = timeout(KILLED, group::ended(leader)).await;
    }

    async fn output_closed(&mut self) {
        while self.readers.join_next().await.is_some() {}
    }

    /// The child's id, as long as it is not reaped.
    fn leader(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(leader) = self.leader() {
            group::signal(leader, Signal::KILL);
        }
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, capture: Arc<Mutex<Capture>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut bytes).await {
        capture.lock().unwrap_or_else(PoisonError::into_inner).push(&bytes[..count]);
    }
}
