//! What no channel took.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;

/// One line of a dead-letter file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// When it was given up.
    pub given_up: Timestamp,
    /// Why, for each channel: its name and the error.
    pub reasons: Vec<(String, String)>,
    /// The alert.
    pub alert: Alert,
}

impl DeadLetter {
    pub(crate) fn new(alert: Alert, reasons: Vec<(String, String)>) -> Self {
        Self { given_up: Timestamp::now(), reasons, alert }
    }

    /// Appends it as one line of JSON and returns when it is on the disk.
    pub(crate) fn append_to(&self, path: &Path) -> io::Result<()> {
        append_line(path, serde_json::to_vec(self)?)
    }
}

/// Appends a line by one call and returns when it is on the disk. The end of a line that a full
/// disk once cut is closed first.
pub(crate) fn append_line(path: &Path, mut line: Vec<u8>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()?;
    if length == 0 {
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
