//! Services as plain processes in sessions of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{
    PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::holders::{MARK, Signs, mark};
use super::process_id::{ProcessId, rustix_pid};
use super::{Launch, Liveness, ServiceManager};
use crate::error::{Error, ErrorKind};

const LOCK: &str = "service.lock";
const RECORD: &str = "process.json";
const SCHEMA: u32 = 1;
/// How long another look at the same lock may take.
const GLIMPSE: Duration = Duration::from_secs(2);
/// How long a process may take to be gone after SIGKILL: the kernel frees its memory first.
const KILLED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(15);

/// Runs services as processes that outlive the deployer.
///
/// A service gets a locked file as its *standard input*. The kernel's lock belongs to the open
/// file, which the service inherits in the moment of the fork: there is no instant at which it
/// runs and the lock is free, wherever the deployer is killed. So any later process can tell
/// whether the instance lives (the lock is held), find it although no pid was ever written down
/// (who has that file as standard input), and can start it only once. When the service ends, the
/// kernel frees the lock. To the service its standard input looks empty.
///
/// After the start, `process.json` says which process it is: pid, start time and boot. It finds a
/// service that closed its standard input, and tells the service from what it has started. What
/// the service starts inherits the variable `OPS_INSTANCE` with the instance's folder, and is found
/// by that when the service has ended. Signals go to processes that are identified by one of the
/// three, and to the groups that they lead, never to a bare number.
///
/// The service leads a session of its own where `setsid` (util-linux, busybox) is installed,
/// otherwise a process group of its own. In a program that goes on living, a thread waits for the
/// end of each service that it started.
///
/// Limits: a process that closes its standard input, forks away from the recorded process *and*
/// clears its environment is not found again: run services in the foreground. Only processes of
/// the same user are seen. Linux only.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Detached;

impl Detached {
    /// The manager. It has no state of its own.
    pub fn new() -> Self {
        Self
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    process: ProcessId,
}

impl ServiceManager for Detached {
    fn start(&self, launch: &Launch) -> Result<(), Error> {
        let path = launch.folder.join(LOCK);
        let opened = |error| Error::io("open", &path, error);
        drop(File::options().create(true).append(true).open(&path).map_err(opened)?);
        // Read-only, as the service gets it: nothing can be written through its standard input.
        let lock = File::open(&path).map_err(opened)?;
        let until = Instant::now() + GLIMPSE;
        while !try_lock(&lock, &path, FlockOperation::NonBlockingLockExclusive)? {
            // Either the service runs, or somebody looks at the lock right now.
            let signs = Signs::new(&launch.folder, Some(&meta(&lock, &path)?));
            if !found(signs.find())?.is_empty() || Instant::now() > until {
                return adopt(&launch.folder, &lock, &path);
            }
            std::thread::sleep(POLL);
        }
        if alive(read_record(&launch.folder)?)?.is_some() {
            return Ok(());
        }
        ops_core::fault::point("service: locked");

        let child = spawn(launch, &lock)?;
        ops_core::fault::point("service: spawned");
        let process = ProcessId::of(child.id());
        // Nobody else collects it, and a zombie would look alive to others. Where the thread cannot
        // be had, it is collected when this program ends.
        let mut child = child;
        let _ = std::thread::Builder::new()
            .name("ops-service-wait".to_owned())
            .spawn(move || child.wait());
        if let Some(process) = found(process)? {
            write_record(&launch.folder, process)?;
        }
        ops_core::fault::point("service: recorded");
        Ok(())
    }

    fn liveness(&self, folder: &Path) -> Result<Liveness, Error> {
        let record = read_record(folder)?;
        if let Some(process) = alive(record)? {
            return Ok(Liveness::Running(Some(process)));
        }
        let path = folder.join(LOCK);
        let Some(lock) = open_lock(&path)? else { return Ok(Liveness::Stopped) };
        // Shared: two that look do not see each other.
        if !try_lock(&lock, &path, FlockOperation::NonBlockingLockShared)? {
            return Ok(if record.is_some() { Liveness::Orphans } else { Liveness::Running(None) });
        }
        let of_this_boot = record.map(|process| found(process.is_of_this_boot())).transpose()?;
        let left =
            of_this_boot == Some(true) && !found(Signs::new(folder, None).find())?.is_empty();
        Ok(if left { Liveness::Orphans } else { Liveness::Stopped })
    }

    fn stop(
        &self,
        folder: &Path,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let path = folder.join(LOCK);
        let lock = open_lock(&path)?;
        let begun = Instant::now();
        let mut asked = BTreeSet::new();
        let mut killing = None;
        loop {
            let record = read_record(folder)?;
            let alive = alive(record)?;
            let free = match &lock {
                Some(lock) => try_lock(lock, &path, FlockOperation::NonBlockingLockShared)?,
                None => true,
            };
            let file = lock.as_ref().map(|lock| meta(lock, &path)).transpose()?;
            let signs = Signs::new(folder, file.as_ref());
            let mut pids = if lock.is_some() { found(signs.find())? } else { Vec::new() };
            if free && alive.is_none() && pids.is_empty() {
                return Ok(());
            }
            pids.extend(alive.map(|process| process.pid));
            pids.sort_unstable();
            pids.dedup();

            if killing.is_none() && (begun.elapsed() >= grace || cancel.is_cancelled()) {
                killing = Some(Instant::now());
            }
            for pid in &pids {
                // Who cannot be told from another one is not sent a signal; the next look tells.
                let still = || {
                    let is = |process: ProcessId| process.is_alive().unwrap_or(false);
                    alive.is_some_and(|process| process.pid == *pid && is(process))
                        || signs.are_on(*pid).unwrap_or(false)
                };
                match killing {
                    Some(_) => send(*pid, Signal::KILL, still),
                    None if asked.insert(*pid) => send(*pid, Signal::TERM, still),
                    None => {}
                }
            }
            if killing.is_some_and(|since| since.elapsed() > KILLED) {
                let who = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                let who = if who.is_empty() { "of another user".to_owned() } else { who };
                return Err(Error::new(ErrorKind::Service, "the service cannot be stopped")
                    .with("processes", who)
                    .with("folder", folder.display())
                    .remedy("end these processes by hand, then recover"));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The service runs already. Its start may have been cut off before it was recorded.
fn adopt(folder: &Path, lock: &File, path: &Path) -> Result<(), Error> {
    if read_record(folder)?.is_none() {
        let signs = Signs::new(folder, Some(&meta(lock, path)?));
        let leader = found(signs.find())?.into_iter().find(|pid| leads(*pid));
        let leader = leader.map(|pid| found(ProcessId::of(pid))).transpose()?.flatten();
        if let Some(process) = leader
            && found(signs.holds_lock(process.pid))?
        {
            write_record(folder, process)?;
        }
    }
    Ok(())
}

/// What was found of processes.
fn found<T>(looked: io::Result<T>) -> Result<T, Error> {
    looked.map_err(|error| Error::io("look at processes in", Path::new("/proc"), error))
}

/// The recorded process, if it lives.
fn alive(record: Option<ProcessId>) -> Result<Option<ProcessId>, Error> {
    let Some(process) = record else { return Ok(None) };
    Ok(found(process.is_alive())?.then_some(process))
}

fn spawn(launch: &Launch, lock: &File) -> Result<std::process::Child, Error> {
    let program = find(launch)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(&launch.log)
        .map_err(|error| Error::io("open the log", &launch.log, error))?;
    let again = |file: &File, path: &Path| {
        file.try_clone().map_err(|error| Error::io("open again", path, error))
    };
    let session =
        ["/usr/bin/setsid", "/bin/setsid"].into_iter().find(|path| is_program(Path::new(path)));
    let mut command = if let Some(setsid) = session {
        // It is no group leader, so `setsid` does not fork: the process stays the same one.
        let mut command = Command::new(setsid);
        command.arg(&program);
        command
    } else {
        let mut command = Command::new(&program);
        command.process_group(0);
        command
    };
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(&launch.environment)
        .env(MARK, mark(&launch.folder))
        .current_dir(&launch.working_dir)
        .stdin(Stdio::from(again(lock, &launch.folder)?))
        .stdout(Stdio::from(again(&log, &launch.log)?))
        .stderr(Stdio::from(log));
    command.spawn().map_err(|error| {
        Error::new(ErrorKind::Service, format!("cannot start `{}`", program.display()))
            .with("in", launch.working_dir.display())
            .caused_by(error)
    })
}

fn find(launch: &Launch) -> Result<PathBuf, Error> {
    let missing = |places: String| {
        Error::new(
            ErrorKind::Service,
            format!("there is no program `{}`", launch.program.display()),
        )
        .with("looked_in", places)
        .remedy("build it into the release, or correct the service's argv")
    };
    if launch.program.components().count() > 1 {
        return is_program(&launch.program)
            .then(|| launch.program.clone())
            .ok_or_else(|| missing(launch.working_dir.display().to_string()));
    }
    let places =
        launch.environment.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    std::env::split_paths(places)
        .map(|place| place.join(&launch.program))
        .find(|path| is_program(path))
        .ok_or_else(|| missing(places.to_owned()))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Signals a process, and the group that it leads, if it still is who it was when the kernel's
/// handle on it was taken.
fn send(pid: u32, signal: Signal, still: impl Fn() -> bool) {
    let Some(raw) = rustix_pid(pid) else { return };
    let Ok(handle) = pidfd_open(raw, PidfdFlags::empty()) else { return };
    if !still() {
        return;
    }
    if leads(pid) {
        let _ = kill_process_group(raw, signal);
    } else {
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// Whether it leads a group: then the group is its own, not the deployer's, which it is in until
/// it has left.
fn leads(pid: u32) -> bool {
    rustix_pid(pid).is_some_and(|raw| getpgid(Some(raw)).is_ok_and(|group| group == raw))
}

fn open_lock(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

fn meta(file: &File, path: &Path) -> Result<fs::Metadata, Error> {
    file.metadata().map_err(|error| Error::io("look at", path, error))
}

/// A lock that was got is given back when the file is closed, never by unlocking: that would
/// unlock it for the service, too.
fn try_lock(file: &File, path: &Path, how: FlockOperation) -> Result<bool, Error> {
    match flock(file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::io("lock", path, error.into())),
    }
}

fn write_record(folder: &Path, process: ProcessId) -> Result<(), Error> {
    let record = Record { schema: SCHEMA, process };
    let bytes = serde_json::to_vec(&record).expect("a record is made of JSON values");
    Ok(ops_core::fs::atomic_write(&folder.join(RECORD), &bytes)?)
}

fn read_record(folder: &Path) -> Result<Option<ProcessId>, Error> {
    let path = folder.join(RECORD);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("`{}` cannot be read", path.display()))
            .remedy("if a newer program wrote it, run that one; else remove it")
            .caused_by(error)
    })?;
    Ok(Some(record.process))
}
