//! Temporaries under a recognisable name, and sweeping away those that a crash left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::durable::{parent, sync_dir};
use super::failure::failed;
use crate::error::Error;

const SUFFIX: &[u8] = b".ops-tmp";
const RANDOM_LEN: usize = 26;
/// What Linux allows for one name in a folder.
const NAME_MAX: usize = 255;

/// A fresh temporary name beside `path`: `.<name>.<random>.ops-tmp`.
///
/// It lies in the same folder, so that a rename onto `path` is atomic. The name is cut where it
/// would pass what a file system allows. Nothing is created.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().map_or(b"".as_slice(), |name| name.as_bytes());
    let room = NAME_MAX - RANDOM_LEN - SUFFIX.len() - 2;
    let mut fresh = vec![b'.'];
    fresh.extend_from_slice(&name[..name.len().min(room)]);
    fresh.push(b'.');
    fresh.extend_from_slice(ulid::Ulid::generate().to_string().as_bytes());
    fresh.extend_from_slice(SUFFIX);
    path.with_file_name(OsString::from_vec(fresh))
}

fn is_temporary(name: &[u8]) -> bool {
    let Some(stem) = name.strip_prefix(b".").and_then(|name| name.strip_suffix(SUFFIX)) else {
        return false;
    };
    let Some(dot) = stem.len().checked_sub(RANDOM_LEN + 1) else {
        return false;
    };
    stem[dot] == b'.'
        && std::str::from_utf8(&stem[dot + 1..])
            .is_ok_and(|random| ulid::Ulid::from_string(random).is_ok())
}

/// A temporary that goes away unless it is kept.
#[must_use = "dropping it removes the temporary"]
pub(super) struct Temporary(Option<PathBuf>);

impl Temporary {
    pub(super) fn file(beside: &Path, mode: u32) -> Result<(Self, File), Error> {
        let path = temporary_beside(beside);
        // `create_new` refuses whatever is there, also a link that somebody else has planted.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|e| failed("create", &path, e))?;
        Ok((Self(Some(path)), file))
    }

    pub(super) fn symlink(beside: &Path, target: &Path) -> Result<Self, Error> {
        let path = temporary_beside(beside);
        std::os::unix::fs::symlink(target, &path).map_err(|e| failed("create", &path, e))?;
        Ok(Self(Some(path)))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.as_deref().expect("it is taken only by `keep`, which consumes it")
    }

    /// It has been renamed: nothing is left to remove.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // The error that led here says what went wrong; a leftover is swept later.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes temporaries that a crash left in this folder, and says how many.
///
/// Only files and links under the exact name pattern go, whose last change is at least
/// `older_than` ago by the wall clock: choose it longer than any write can take. Folders below are
/// not entered. A missing folder has none.
///
/// # Errors
///
/// When the folder cannot be listed, or a temporary cannot be removed.
pub fn sweep_temporaries(folder: &Path, older_than: Duration) -> Result<usize, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("list", folder, error)),
    };
    let now = SystemTime::now();
    let mut swept = 0;
    for entry in entries {
        let entry = entry.map_err(|e| failed("list", folder, e))?;
        if !is_temporary(entry.file_name().as_bytes()) {
            continue;
        }
        let path = entry.path();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // Its writer has just finished.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("look at", &path, error)),
        };
        let changed = found.modified().map_err(|e| failed("look at", &path, e))?;
        // One from the future has an unknown age, and stays.
        let old = now.duration_since(changed).is_ok_and(|age| age >= older_than);
        if !old || found.is_dir() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path, error)),
        }
    }
    if swept > 0 {
        sync_dir(parent(&folder.join("x")))?;
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_temporaries_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let old = temporary_beside(&at("state.json"));
        let young = temporary_beside(&at("state.json"));
        let folder = temporary_beside(&at("folder"));
        let link = temporary_beside(&at("current"));
        let alike = at(".notes.0123.ops-tmp");
        for file in [&old, &young, &alike, &at("state.json")] {
            fs::write(file, "x").unwrap();
        }
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(at("state.json"), &link).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        for file in [&old, &alike, &at("state.json")] {
            File::options().write(true).open(file).unwrap().set_modified(hour_ago).unwrap();
        }

        assert_eq!(sweep_temporaries(dir.path(), Duration::from_mins(10)).unwrap(), 1);
        assert!(!old.exists() && young.exists() && alike.exists() && folder.exists());
        assert_eq!(sweep_temporaries(dir.path(), Duration::ZERO).unwrap(), 2);
        assert!(!young.exists() && fs::symlink_metadata(&link).is_err());
        assert!(at("state.json").exists(), "the target of a swept link stays");
        assert_eq!(sweep_temporaries(&at("missing"), Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn names_are_recognised_exactly() {
        let check =
            |name: &str, expected| assert_eq!(is_temporary(name.as_bytes()), expected, "{name}");
        check(".a.01ARZ3NDEKTSV4RRFFQ69G5FAV.ops-tmp", true);
        check("..01ARZ3NDEKTSV4RRFFQ69G5FAV.ops-tmp", true);
        check("a.01ARZ3NDEKTSV4RRFFQ69G5FAV.ops-tmp", false);
        check(".01ARZ3NDEKTSV4RRFFQ69G5FAV.ops-tmp", false);
        check(".a.01ARZ3NDEKTSV4RRFFQ69G5FA!.ops-tmp", false);
        check(".ops-tmp", false);
        let long = temporary_beside(Path::new(&"n".repeat(300)));
        assert_eq!(long.as_os_str().len(), NAME_MAX);
        assert!(is_temporary(long.as_os_str().as_bytes()));
    }
}
