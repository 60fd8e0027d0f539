//! A running filter, in a process group of its own that ends when its time is over.

use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gix::bstr::BString;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::bound::Bound;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::path_bytes::on_disk;

/// How long one that was told to end may take before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// How long one whose input was closed may take to end by itself.
const END: Duration = Duration::from_secs(5);

/// A filter that was just started.
pub(super) struct Child {
    process: std::process::Child,
    group: Group,
}

impl Child {
    pub(super) fn start(line: &BString, context: &gix::command::Context) -> Result<Self, Error> {
        let doing = || "the filter cannot be started".to_owned();
        let mut command: std::process::Command = gix::command::prepare(on_disk(line))
            .command_may_be_shell_script()
            .with_context(context.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .try_into()
            .doing(doing)?;
        if let Some(folder) = &context.worktree_dir {
            command.current_dir(folder);
        }
        let runtime = Handle::try_current()
            .map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let process = command
            .process_group(0)
            .spawn()
            .map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let group = Group::of(&process, &runtime);
        Ok(Self { process, group })
    }

    pub(super) fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout), Error> {
        match (self.process.stdin.take(), self.process.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok((stdin, stdout)),
            _ => Err(Error::new(ErrorKind::Io, "the filter has no pipes")),
        }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn into_parts(self) -> (std::process::Child, Group) {
        (self.process, self.group)
    }
}

/// The process group of a filter, and who ends it in time. Dropping it ends the filter.
pub(super) struct Group {
    fuse: Arc<Fuse>,
    watch: JoinHandle<()>,
}

/// Kills a process group, as long as its leader is not reaped: later its number may be somebody
/// else's.
struct Fuse {
    leader: Mutex<Option<Pid>>,
    why: OnceLock<ErrorKind>,
}

impl Fuse {
    fn signal(&self, signal: Signal) {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = *leader {
            // The group may have ended meanwhile: that is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

/// Kills at last, also where the runtime ends before the filter does.
struct Last(Arc<Fuse>);

impl Drop for Last {
    fn drop(&mut self) {
        if self.0.leader.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let _ = self.0.why.set(ErrorKind::Cancelled);
            self.0.signal(Signal::KILL);
        }
    }
}

impl Group {
    fn of(process: &std::process::Child, runtime: &Handle) -> Self {
        let leader = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let fuse = Arc::new(Fuse { leader: Mutex::new(leader), why: OnceLock::new() });
        let (bound, last) = (Bound::here(), Last(Arc::clone(&fuse)));
        let watch = runtime.spawn(async move {
            let why = bound.over().await;
            let _ = last.0.why.set(why);
            last.0.signal(Signal::TERM);
            tokio::time::sleep(GRACE).await;
            drop(last);
        });
        Self { fuse, watch }
    }

    /// Waits for its end, and answers whether it ended well.
    pub(super) fn ended(&self) -> Result<bool, Error> {
        let leader = *self.fuse.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let ended_well = leader.is_some_and(|leader| {
            loop {
                // Not reaped, so that it can be killed while it is waited for.
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                match waitid(WaitId::Pid(leader), options) {
                    Err(rustix::io::Errno::INTR) => {}
                    ended => {
                        return ended.is_ok_and(|it| it.and_then(|it| it.exit_status()) == Some(0));
                    }
                }
            }
        });
        self.reap();
        match self.fuse.why.get() {
            Some(_) => Err(self.blame(Error::new(ErrorKind::Git, "the filter was ended"))),
            None => Ok(ended_well),
        }
    }

    /// The error of a filter, or why it was ended.
    pub(super) fn blame(&self, error: Error) -> Error {
        let Some(why) = self.fuse.why.get() else { return error };
        let what = match why {
            ErrorKind::TimedOut => "the filter took too long, and was ended",
            _ => "the filter was ended, for its operation was",
        };
        Error::new(*why, what).remedy("find out why it hangs: git would wait for it for ever")
    }

    fn reap(&self) {
        let leader = self.fuse.leader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leader) = leader {
            let _ = waitpid(Some(leader), WaitOptions::empty());
        }
        self.watch.abort();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = *self.fuse.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(leader) = leader else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(waitid(WaitId::Pid(leader), options), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.fuse.signal(Signal::KILL);
        self.reap();
    }
}
