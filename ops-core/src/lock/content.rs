//! What stands in a lock file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::error::{Error, ErrorKind};

const FORMAT: u32 = 1;
/// A holder that dies again and again must not make the file grow.
const MAX_LEFT_BEHIND: usize = 16;
/// Far more than sixteen holders with the longest paths need.
const MAX_BYTES: u64 = 256 * 1024;

/// One line of JSON; whatever follows the line is of a longer content that was overwritten.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Content {
    format: u32,
    #[serde(flatten)]
    pub(super) holder: Holder,
    /// Those that died before it and whose work it has not yet declared finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_behind: Vec<Holder>,
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Content {
    pub(super) fn new(holder: Holder, left_behind: &[Holder]) -> Self {
        Self { format: FORMAT, holder, left_behind: left_behind.to_vec() }
    }

    /// The dead, the oldest first; the oldest is kept whatever came after, since its work is what
    /// the others came to finish.
    pub(super) fn all(self) -> Vec<Holder> {
        let mut all = self.left_behind;
        all.push(self.holder);
        if all.len() > MAX_LEFT_BEHIND {
            let surplus = all.len() - MAX_LEFT_BEHIND;
            all.drain(1..=surplus);
        }
        all
    }

    /// What stands in the file; `None` if it is empty, or its holder is writing it just now, or
    /// died while it did.
    pub(super) fn read(file: &File, path: &Path) -> Result<Option<Self>, Error> {
        let reading = |error| Error::io("read the lock file", path, error);
        let length = file.metadata().map_err(reading)?.len().min(MAX_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(error)),
            }
        }
        Self::parse(&bytes[..filled], path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>, Error> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line = &bytes[..end];
        match serde_json::from_slice::<Header>(line) {
            Ok(header) if header.format > FORMAT => Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "the lock file `{}` has format {}, and this program knows formats up to {FORMAT}",
                    path.display(),
                    header.format
                ),
            )
            .remedy("a newer version of the program died while it held the lock: recover with that version")),
            Ok(_) => Ok(serde_json::from_slice(line).ok()),
            Err(_) => Ok(None),
        }
    }

    /// Writes over the old content in one call, so that a death in between loses neither.
    pub(super) fn write(&self, file: &File, path: &Path) -> Result<(), Error> {
        let writing = |error| Error::io("sign the lock file", path, error);
        let mut line = serde_json::to_vec(self)
            .map_err(|error| Error::io("sign the lock file", path, error.into()))?;
        line.push(b'\n');
        file.write_all_at(&line, 0).map_err(writing)?;
        file.set_len(line.len() as u64).map_err(writing)?;
        file.sync_data().map_err(writing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"format":1,"pid":4711,"since":"2026-11-21T05:00:00Z","program":"deployer","operation":"01JD2Q5W3V8Y7K6M4N9P0R1S2T","journal":"/var/lib/ops/01JD.jsonl","left_behind":[{"pid":4710,"since":"2026-11-21T04:00:00Z","program":"deployer"}]}"#;

    fn parse(text: &str) -> Result<Option<Content>, Error> {
        Content::parse(text.as_bytes(), Path::new("/run/site.lock"))
    }

    #[test]
    fn format_one_is_read_for_ever() {
        let content = parse(&format!("{GOLDEN}\nrest of a longer one")).unwrap().unwrap();
        assert_eq!(content.holder.pid, 4711);
        assert_eq!(content.left_behind[0].pid, 4710);
        assert_eq!(serde_json::to_string(&content).unwrap(), GOLDEN);
    }

    #[test]
    fn what_is_half_written_is_nobody_and_what_is_newer_is_refused() {
        assert!(parse("").unwrap().is_none());
        for cut in 0..GOLDEN.len() {
            assert!(parse(&GOLDEN[..cut]).unwrap().is_none());
            assert!(parse(&format!("{}\n", &GOLDEN[..cut])).unwrap().is_none());
        }
        let error = parse("{\"format\":2,\"who\":\"?\"}\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        assert!(error.to_string().contains("has format 2"), "{error}");
    }

    #[test]
    fn the_dead_are_bounded_and_the_oldest_stays() {
        let holder = |pid| Holder { pid, ..Holder::unknown(None, jiff::Timestamp::UNIX_EPOCH) };
        let mut dead = Vec::new();
        for pid in 1..=40 {
            dead = Content::new(holder(pid), &dead).all();
        }
        assert_eq!(dead.len(), MAX_LEFT_BEHIND);
        assert_eq!((dead[0].pid, dead[1].pid, dead[15].pid), (1, 26, 40));
    }
}
