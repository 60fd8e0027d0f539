//! The few system calls that a journal makes.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write as _};

/// The few system calls that a journal makes, so that tests can let each of them fail.
pub trait JournalIo: Debug + Send + Sync {
    /// Writes everything at the file's end.
    ///
    /// # Errors
    /// Those of the system. Part of the bytes may be in the file then.
    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Brings the file's data to the disk.
    ///
    /// # Errors
    /// Those of the system. Whether the data is on disk is not known then.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Cuts the file back to this length.
    ///
    /// # Errors
    /// Those of the system.
    fn cut(&self, file: &File, len: u64) -> io::Result<()>;
}

/// The real calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIo;

impl JournalIo for SystemIo {
    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if !crate::fault::is_armed() {
            return file.write_all(bytes);
        }
        // Under the crash harness a line can be torn.
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        file.write_all(head)?;
        crate::fault::point("journal: half a line");
        file.write_all(tail)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }
}
