//! One operation at a time on one resource: kernel locks, freed by death.
//!
//! A lock file holds the name of its holder, and the kernel holds the lock. A holder that dies,
//! however it dies, frees it in that instant; one that is merely stopped (`SIGSTOP`, a debugger)
//! is alive and keeps it. Nothing is ever taken from the living, and no age makes a lock stale.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use ops_core::lock::{Attempt, Holder, Lock};
//!
//! let path = dir.path().join("site.lock");
//! let me = Holder::this_process("deployer", jiff::Timestamp::now());
//! match Lock::try_acquire(&path, &me)? {
//!     Attempt::Acquired(lock) => {
//!         // ... the operation ...
//!         lock.release()?;
//!     }
//!     Attempt::Held(holder) => println!("busy: {holder}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Why `flock`
//!
//! It belongs to the open file, not to the process: two threads of one process exclude each other,
//! and closing some other descriptor of the same file does not free it, as it would with a POSIX
//! record lock. Open-file-description locks have the same virtues and add byte ranges, which a
//! whole-file lock does not need. On NFS the kernel turns `flock` into a lock of the server;
//! whether that is freed by death is then the server's affair.
//!
//! # Why the file is never deleted
//!
//! Somebody may have opened it and not yet locked it. If the holder deleted it then, that somebody
//! would lock a file without a name while a third process creates and locks a new one: two
//! holders. So the file stays, empty, and its presence means nothing. (Where another program
//! deletes it all the same, an acquirer notices that the path names another file, and starts over.)

mod content;
mod kernel;

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::content::Content;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::fault;
use crate::operation_id::OperationId;

/// How long to wait for a holder that has the lock to say who it is.
const INTRODUCTION: Duration = Duration::from_millis(200);

/// Who holds a lock, or held it when it died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its process id; 0 if unknown.
    pub pid: u32,
    /// When it took the lock, by its own clock.
    pub since: Timestamp,
    /// The program's name; empty if unknown.
    pub program: String,
    /// The operation that it runs, if it runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Where that operation's journal lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,
}

impl Holder {
    /// This process, without an operation.
    pub fn this_process(program: impl Into<String>, since: Timestamp) -> Self {
        Self {
            pid: std::process::id(),
            since,
            program: program.into(),
            operation: None,
            journal: None,
        }
    }

    /// Adds the operation, and where its journal lies.
    pub fn operation(mut self, operation: OperationId, journal: impl Into<PathBuf>) -> Self {
        self.operation = Some(operation);
        self.journal = Some(journal.into());
        self
    }

    /// One that has the lock and has not said who it is; the kernel may know its pid.
    fn unknown(pid: Option<u32>, since: Timestamp) -> Self {
        Self {
            pid: pid.unwrap_or(0),
            since,
            program: String::new(),
            operation: None,
            journal: None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.program.is_empty() {
            f.write_str("a process that has not said its name")?;
        } else {
            write!(f, "`{}`", self.program)?;
        }
        if self.pid != 0 {
            write!(f, ", pid {}", self.pid)?;
        }
        if let Some(operation) = &self.operation {
            write!(f, ", operation {operation}")?;
        }
        write!(f, ", since {:.0}", self.since)
    }
}

/// What came of trying to take a lock.
#[derive(Debug)]
#[must_use = "an acquired lock is freed when it is dropped"]
pub enum Attempt {
    /// It is ours.
    Acquired(Lock),
    /// A living process has it. Its `program` is empty, and its `pid` perhaps 0, when it has not
    /// said who it is within a moment; `since` is then the present.
    Held(Holder),
}

/// A lock that is held.
///
/// [`release`](Self::release) says that all is done and clears the file. Dropping it instead frees
/// the lock and keeps the content: the next holder sees it as left behind, as after a death.
#[derive(Debug)]
#[must_use = "the lock is freed when it is dropped"]
pub struct Lock {
    file: File,
    path: PathBuf,
    left_behind: Vec<Holder>,
}

impl Lock {
    /// Tries to take the lock, without waiting for its holder. Creates the file and its folder.
    ///
    /// What a dead holder left is in [`left_behind`](Self::left_behind), and stays in the file
    /// beside `me` until [`release`](Self::release): it is not lost if this holder dies too.
    ///
    /// The descriptor is close-on-exec: children do not inherit the lock.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for writing, is a symbolic link, or was written by a newer
    /// version ([`ErrorKind::Foreign`]).
    pub fn try_acquire(path: &Path, me: &Holder) -> Result<Attempt, Error> {
        crate::fs::create_dir_durable(folder_of(path))?;
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return holder_of(&file, path).map(Attempt::Held),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::io("lock", path, error.into())),
            }
            // Not for lack of trust in ourselves: see the module's words on deletion. It ends,
            // since each round needs another deletion in between.
            if !names_this_file(path, &file)? {
                continue;
            }
            fault::point("lock: taken and not yet signed");
            return Self::sign(file, path, me).map(Attempt::Acquired);
        }
    }

    fn sign(file: File, path: &Path, me: &Holder) -> Result<Self, Error> {
        let left_behind = match Content::read(&file, path)? {
            Some(content) => content.all(),
            None => Vec::new(),
        };
        Content::new(me.clone(), &left_behind).write(&file, path)?;
        Ok(Self { file, path: path.to_owned(), left_behind })
    }

    /// What the last holder had written, if it died or dropped the lock without releasing it.
    pub fn left_behind(&self) -> Option<&Holder> {
        self.left_behind.last()
    }

    /// All holders since the last [`release`](Self::release) that died, the oldest first: one that
    /// died while it cleared up after another leaves two. At most 16, the oldest and the newest.
    pub fn all_left_behind(&self) -> &[Holder] {
        &self.left_behind
    }

    /// Where the lock file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that nothing is unfinished, and frees the lock.
    ///
    /// # Errors
    ///
    /// When the content cannot be cleared; the lock is freed all the same, and the next holder
    /// sees this one as left behind.
    pub fn release(self) -> Result<(), Error> {
        self.clear()
    }

    /// Frees the lock and leaves the file as it was found, with the marks of those that died:
    /// nothing was begun.
    ///
    /// # Errors
    ///
    /// When the content cannot be written; the lock is freed all the same, and the next holder
    /// sees this one as left behind too.
    pub fn give_back(self) -> Result<(), Error> {
        match self.left_behind.split_last() {
            Some((last, before)) => {
                Content::new(last.clone(), before).write(&self.file, &self.path)
            }
            None => self.clear(),
        }
    }

    fn clear(&self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|e| Error::io("clear the lock file", &self.path, e))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, unless another thread is between fork and exec: its child still has a
        // copy of the descriptor, and with it the lock, for a moment.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    // The standard library adds close-on-exec.
    options.read(true).write(true).mode(0o644);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let opened = match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let created = options.create(true).open(path);
            if created.is_ok() {
                crate::fs::sync_dir(folder_of(path))?;
            }
            created
        }
        opened => opened,
    };
    opened.map_err(|error| {
        let is_link = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        let error = Error::io("open the lock file", path, error);
        if is_link { error.remedy("it is a symbolic link: name the file itself") } else { error }
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn names_this_file(path: &Path, file: &File) -> Result<bool, Error> {
    let looking = |error| Error::io("look at the lock file", path, error);
    let ours = file.metadata().map_err(looking)?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.dev() == ours.dev() && named.ino() == ours.ino()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(looking(error)),
    }
}

/// Who has the lock that we could not get.
///
/// Between a holder's lock and its signature the file is empty, or still bears the name of a dead
/// one. Where the kernel says whose lock it is, a signature counts only if it is that process's.
fn holder_of(file: &File, path: &Path) -> Result<Holder, Error> {
    let until = Instant::now() + INTRODUCTION;
    let mut pause = Duration::from_micros(200);
    loop {
        let signed = Content::read(file, path);
        let locker = kernel::locker(file);
        match (&signed, locker) {
            (Ok(Some(content)), None) => return Ok(content.holder.clone()),
            (Ok(Some(content)), Some(locker)) if locker.is(content.holder.pid) => {
                return Ok(content.holder.clone());
            }
            // Empty, of one that is dead, or of a newer version whose names we cannot read.
            _ => {}
        }
        if Instant::now() >= until {
            return Ok(Holder::unknown(locker.map(kernel::Locker::pid), Timestamp::now()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
