//! One journal on disk: append-only, locked by its writer, cut back when a write fails.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{FallocateFlags, FlockOperation};

use super::io::JournalIo;
use super::line::{self, Contents};
use super::record::{Entry, JOURNAL_SCHEMA, Record};
use super::state::State;
use crate::error::{Error, ErrorKind};

/// Room for the records of one step, both ways, without large notes.
const ROOM_FOR_A_STEP: u64 = 2048;
/// Room for what every operation writes.
const ROOM_FOR_AN_OPERATION: u64 = 8192;

/// A record that could not be written.
#[derive(Debug)]
pub struct AppendFailure {
    /// Whether the file is proven to be as it was before; else the record may be in it.
    pub proven_absent: bool,
    /// Why.
    pub source: io::Error,
}

/// One journal on disk, held by this process.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
    io: Arc<dyn JournalIo>,
    good: u64,
    seq: u64,
    poisoned: bool,
}

/// How opening an existing journal went.
#[derive(Debug)]
pub enum Opened {
    /// Nobody else has it.
    Ours(Box<JournalFile>, Box<State>),
    /// A living process has it.
    Running,
    /// It is not there any more: another process has ended the operation.
    Gone,
}

impl JournalFile {
    /// Makes a journal with its first record in it; the file has its name only once that is
    /// durable, so that no journal is ever empty.
    ///
    /// # Errors
    /// Those of the system; nothing refers to what was written then.
    pub fn create(path: &Path, began: &Record, io: Arc<dyn JournalIo>) -> Result<Self, Error> {
        let failed = |source| Error::io("write the journal", path, source);
        let folder = path.parent().unwrap_or(Path::new("."));
        crate::fs::create_dir_durable(folder)?;
        let temporary = crate::fs::temporary_beside(path);
        let options =
            OpenOptions::new().append(true).read(true).create_new(true).mode(0o600).clone();
        let file = options.open(&temporary).map_err(failed)?;
        let mut journal =
            Self { file, path: path.to_owned(), io, good: 0, seq: 0, poisoned: false };
        let made = (|| {
            journal.lock()?;
            journal.reserve(began)?;
            journal.append(began).map_err(|failure| failure.source)?;
            crate::fault::point("journal: before it has its name");
            std::fs::rename(&temporary, path)
        })();
        if let Err(source) = made {
            // Nothing refers to it; if it stays, it only takes room until a recovery sweeps it.
            let _ = std::fs::remove_file(&temporary);
            return Err(failed(source));
        }
        crate::fault::point("journal: before its folder is on disk");
        if let Err(error) = crate::fs::sync_dir(folder) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(journal)
    }

    /// Takes up a journal that another process left.
    ///
    /// # Errors
    /// Those of the system; that it is damaged, or of a newer program.
    pub fn open(path: &Path, io: Arc<dyn JournalIo>) -> Result<Opened, Error> {
        let failed = |source| Error::io("open the journal", path, source);
        let file = match OpenOptions::new().append(true).read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
            Err(error) => return Err(failed(error)),
        };
        let mut journal =
            Self { file, path: path.to_owned(), io, good: 0, seq: 0, poisoned: false };
        match journal.lock() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Opened::Running),
            Err(error) => return Err(failed(error)),
        }
        // Between opening and locking its owner may have moved it away.
        if !path.try_exists().map_err(failed)? {
            return Ok(Opened::Gone);
        }
        let mut bytes = Vec::new();
        journal.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        journal.file.read_to_end(&mut bytes).map_err(failed)?;
        let contents = parse(path, &bytes)?;
        let state = replay(path, &contents.entries)?;
        // What is read here may be in memory only: after a power loss, acting on it must not have
        // been ahead of it.
        if contents.good < bytes.len() as u64 {
            journal.io.cut(&journal.file, contents.good).map_err(failed)?;
        }
        journal.io.sync(&journal.file).map_err(failed)?;
        journal.good = contents.good;
        journal.seq = contents.entries.len() as u64;
        Ok(Opened::Ours(Box::new(journal), Box::new(state)))
    }

    /// Appends a record, and makes it durable if what follows relies on it.
    ///
    /// # Errors
    /// Those of the system; the file was cut back then, if that was possible.
    pub fn append(&mut self, record: &Record) -> Result<(), AppendFailure> {
        let entry = Entry { seq: self.seq, at: Timestamp::now(), record: record.clone() };
        let line = line::encode(&entry)
            .map_err(|e| AppendFailure { proven_absent: true, source: io::Error::other(e) })?;
        if self.poisoned {
            let source = io::Error::other("an earlier write failed and could not be taken back");
            return Err(AppendFailure { proven_absent: true, source });
        }
        crate::fault::point("journal: before a record");
        let written = self.io.append(&mut self.file, &line).and_then(|()| {
            if record.must_be_durable() { self.io.sync(&self.file) } else { Ok(()) }
        });
        if let Err(source) = written {
            let proven_absent = self.cut_back().is_ok();
            self.poisoned = !proven_absent;
            return Err(AppendFailure { proven_absent, source });
        }
        self.good += line.len() as u64;
        self.seq += 1;
        crate::fault::point("journal: after a record");
        Ok(())
    }

    fn cut_back(&self) -> io::Result<()> {
        self.io.cut(&self.file, self.good)?;
        self.io.sync(&self.file)?;
        if self.file.metadata()?.len() == self.good {
            return Ok(());
        }
        Err(io::Error::other("the journal is longer than it was cut"))
    }

    fn lock(&self) -> io::Result<()> {
        Ok(rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)?)
    }

    /// Reserves the room for the way back, so that a disk that fills up does not take it.
    fn reserve(&self, began: &Record) -> io::Result<()> {
        let Record::Began(began) = began else { return Ok(()) };
        let plan = serde_json::to_vec(&began.plan).map_or(0, |json| json.len() as u64);
        let steps = began.plan.steps().count() as u64;
        let room = ROOM_FOR_AN_OPERATION + 2 * plan + steps * ROOM_FOR_A_STEP;
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, room) {
            // A file system that cannot reserve: the undo then works from memory on a full disk.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a journal that may be being written: whole lines, without taking it up.
pub(crate) fn peek(path: &Path) -> Result<Vec<Entry>, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read the journal", path, e))?;
    Ok(parse(path, &bytes)?.entries)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, Error> {
    if let Some(theirs) = line::schema(bytes).filter(|schema| *schema > JOURNAL_SCHEMA) {
        return Err(Error::new(
            ErrorKind::Foreign,
            format!(
                "journal `{}` has format {theirs}, this program reads up to {JOURNAL_SCHEMA}",
                path.display()
            ),
        )
        .remedy("recover it with the newer program that began it"));
    }
    line::read(bytes).map_err(|damage| {
        Error::new(
            ErrorKind::Corrupt,
            format!("journal `{}` is damaged in line {}", path.display(), damage.line),
        )
        .remedy(
            "bring the file back from a backup, or settle its operation by hand and move the file away",
        )
    })
}

/// The state that a journal's records lead to.
pub(crate) fn replay(path: &Path, entries: &[Entry]) -> Result<State, Error> {
    let illegal = |line: usize, source| {
        Error::new(
            ErrorKind::Corrupt,
            format!("journal `{}` cannot be as it is, see line {line}", path.display()),
        )
        .caused_by(source)
    };
    let first = entries.first().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("journal `{}` has no record", path.display()))
    })?;
    let mut state = State::first(&first.record).map_err(|source| illegal(1, source))?;
    for (at, entry) in entries.iter().enumerate().skip(1) {
        state.advance(&entry.record).map_err(|source| illegal(at + 1, source))?;
    }
    Ok(state)
}
