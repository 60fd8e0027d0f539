//! The open file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::name::SegmentName;

/// Opened for appending, so that a line lands whole at the end whatever else happens to the file.
#[derive(Debug)]
pub(super) struct Active {
    file: File,
    pub(super) path: PathBuf,
    pub(super) name: SegmentName,
    pub(super) bytes: u64,
    /// The file ends in the middle of a line.
    torn: bool,
}

/// What somebody else did to the open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbed {
    /// Its name leads nowhere, or to another file.
    Gone,
    /// It is shorter than what was written.
    Truncated,
}

impl Active {
    /// A file that did not exist.
    pub(super) fn create(folder: &Path, name: SegmentName) -> io::Result<Self> {
        let path = folder.join(name.to_string());
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).mode(0o640).open(&path)?;
        Ok(Self { file, path, name, bytes: 0, torn: false })
    }

    /// A file of an earlier run. Looks whether its last line is whole.
    pub(super) fn resume(folder: &Path, name: SegmentName) -> io::Result<Self> {
        let path = folder.join(name.to_string());
        if !std::fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut file = OpenOptions::new().append(true).read(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let mut torn = false;
        if bytes > 0 {
            let mut last = [0];
            file.seek(io::SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            torn = last != *b"\n";
        }
        Ok(Self { file, path, name, bytes, torn })
    }

    /// Appends a line by one call. After an error nothing of it is there, or what is there is
    /// closed by a line break before the next line.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
            self.torn = false;
        }
        let written = loop {
            match self.file.write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        // A disk that fills up takes a part: the rest fails, and the part must go again.
        if let Err(error) = self.file.write_all(&line[written..]) {
            self.take_back(self.bytes, line);
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn take_back(&mut self, good: u64, line: &[u8]) {
        let grown = |len: u64| len > good && len - good < line.len() as u64;
        let cut = match self.file.metadata() {
            // Somebody else changed the length: it is not ours to set.
            Ok(metadata) if !grown(metadata.len()) => false,
            Ok(_) => self.file.set_len(good).is_ok(),
            Err(_) => false,
        };
        self.torn = !cut;
    }

    /// Whether the file is still the one that its name leads to, and as long as it was. After a
    /// truncation the length is right again.
    pub(super) fn disturbed(&mut self) -> Option<Disturbed> {
        let Ok(mine) = self.file.metadata() else { return Some(Disturbed::Gone) };
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) if (mine.dev(), mine.ino()) == (there.dev(), there.ino()) => {}
            _ => return Some(Disturbed::Gone),
        }
        let shorter = mine.len() < self.bytes;
        self.bytes = mine.len();
        shorter.then_some(Disturbed::Truncated)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
