//! Absent is what the system says is absent: whatever else goes wrong with a look is an error, and
//! never "there is nothing".

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// What lies at a path, itself and not where it leads; `None` if nothing does.
pub(crate) fn at(path: &Path) -> Result<Option<Metadata>, Error> {
    unless_absent("look at", path, path.symlink_metadata())
}

/// Whether anything lies at a path.
pub(crate) fn is_at(path: &Path) -> Result<bool, Error> {
    Ok(at(path)?.is_some())
}

/// By what a name of a file is known to be one of another file's.
pub(crate) fn inode(path: &Path) -> Result<Option<(u64, u64)>, Error> {
    Ok(at(path)?.map(|meta| (meta.dev(), meta.ino())))
}

/// What a file holds; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    unless_absent("read", path, fs::read(path))
}

/// What lies in a folder; nothing if there is none.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(entries) = unless_absent("list", folder, folder.read_dir())? else {
        return Ok(Vec::new());
    };
    entries
        .map(|entry| Ok(entry.map_err(|source| Error::io("list", folder, source))?.path()))
        .collect()
}

fn unless_absent<T>(action: &str, path: &Path, found: io::Result<T>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        // Below a file there is nothing, either.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io(action, path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let (file, circle) = (dir.path().join("file"), dir.path().join("circle"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(!is_at(&dir.path().join("none")).unwrap() && !is_at(&file.join("below")).unwrap());
        assert!(is_at(&circle).unwrap(), "the link itself is there");
        assert!(is_at(&circle.join("below")).is_err());
        assert!(is_at(&dir.path().join("long".repeat(100))).is_err());
        assert_eq!(read(&file).unwrap().as_deref(), Some(&b"x"[..]));
        assert!(read(&dir.path().join("none")).unwrap().is_none());
        assert!(read(&circle).is_err() && read(dir.path()).is_err());
        assert_eq!(list(dir.path()).unwrap().len(), 2);
        assert!(list(&dir.path().join("none")).unwrap().is_empty());
        assert!(list(&file).unwrap().is_empty() && list(&circle).is_err());
    }
}
