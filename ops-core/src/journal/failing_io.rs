//! A disk that fails when it is told to.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::io::{JournalIo, SystemIo};

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is written.
    Write,
    /// Half of the bytes are written, then the disk is full.
    ShortWrite,
    /// The bytes are written, but bringing them to the disk fails.
    Sync,
}

/// The real calls, of which one fails, for tests of what happens then.
#[derive(Debug)]
pub struct FailingIo {
    fault: Fault,
    at: u64,
    for_ever: bool,
    cut_fails: bool,
    appends: AtomicU64,
    broken: std::sync::atomic::AtomicBool,
}

impl FailingIo {
    /// Fails at the n-th record, from 1: the first is `began`.
    pub fn new(fault: Fault, at: u64) -> Self {
        Self {
            fault,
            at,
            for_ever: false,
            cut_fails: false,
            appends: AtomicU64::new(0),
            broken: false.into(),
        }
    }

    /// Every record after that one fails too.
    pub fn for_ever(mut self) -> Self {
        self.for_ever = true;
        self
    }

    /// What was written cannot be taken back either.
    pub fn cut_fails(mut self) -> Self {
        self.cut_fails = true;
        self
    }

    fn is_due(&self) -> bool {
        let now = self.appends.load(Ordering::SeqCst);
        now == self.at || (self.for_ever && now > self.at)
    }
}

fn failure() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)")
}

impl JournalIo for FailingIo {
    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        if self.is_due() {
            self.broken.store(true, Ordering::SeqCst);
            match self.fault {
                Fault::Write => return Err(failure()),
                Fault::ShortWrite => {
                    SystemIo.append(file, &bytes[..bytes.len() / 2])?;
                    return Err(failure());
                }
                Fault::Sync => {}
            }
        }
        SystemIo.append(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let due = self.is_due() && self.fault == Fault::Sync;
        // One failed sync a record; the one after the cut works again.
        if due && self.broken.swap(false, Ordering::SeqCst) {
            return Err(failure());
        }
        SystemIo.sync(file)
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        if self.cut_fails { Err(failure()) } else { SystemIo.cut(file, len) }
    }
}
