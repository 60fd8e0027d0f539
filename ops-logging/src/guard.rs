//! What a program holds while it logs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::file::FileSink;
use crate::sink::{Counts, Sink};

/// Keeps logging whole: dropping it flushes the file to the disk and writes what is still to be
/// said about lost lines.
///
/// Lines that are logged after that are still written, but may not survive a loss of power.
#[derive(Debug)]
#[must_use = "dropping the guard flushes the log: hold it until the program ends"]
pub struct LogGuard {
    pub(crate) file: Option<Arc<FileSink>>,
    pub(crate) console: Option<Arc<dyn Sink>>,
}

impl LogGuard {
    /// What became of the lines for the file; without a file, of those for the console.
    pub fn counts(&self) -> Counts {
        match &self.file {
            Some(file) => file.counts(),
            None => self.console_counts(),
        }
    }

    /// What became of the lines for the console; all zero without one.
    pub fn console_counts(&self) -> Counts {
        self.console.as_ref().map(|console| console.counts()).unwrap_or_default()
    }

    /// The file that is written now; none if there is no directory, or nothing can be opened.
    pub fn active_file(&self) -> Option<PathBuf> {
        self.file.as_ref().and_then(|file| file.active_file())
    }

    /// Flushes what was written to the disk. Blocks until it is there.
    pub fn flush(&self) {
        if let Some(file) = &self.file {
            file.flush();
        }
        if let Some(console) = &self.console {
            console.flush();
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}
