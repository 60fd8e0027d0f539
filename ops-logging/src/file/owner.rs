//! Which process writes which files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::name::SetName;

/// So many sets of one process in one folder; more is a mistake.
const MAX_SETS: u32 = 64;

/// The right to write the files of one set, by a kernel lock that dies with the process.
#[derive(Debug)]
pub(super) struct Owner {
    file: File,
    path: PathBuf,
    pub(super) set: SetName,
}

impl Owner {
    /// Takes the set of the prefix, or where another process has that, one of this process.
    pub(super) fn acquire(folder: &Path, prefix: &str) -> io::Result<Self> {
        let pid = std::process::id();
        let own = (1..=MAX_SETS).map(|further| Some((pid, further)));
        for process in std::iter::once(None).chain(own) {
            let set = SetName { prefix: prefix.to_owned(), process };
            if let Some(owner) = Self::try_set(folder, &set)? {
                return Ok(owner);
            }
        }
        let message = format!("this process has {MAX_SETS} file sets here already");
        Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
    }

    fn try_set(folder: &Path, set: &SetName) -> io::Result<Option<Self>> {
        let path = lock_path(folder, set);
        // Whoever removes a lock file does so while holding it: then the one that was locked here
        // is no longer the one that others find, and the next turn makes a new one.
        for _ in 0..16 {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).mode(0o640);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let owner = Self { file, path: path.clone(), set: set.clone() };
            if owner.holds() {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// Whether the lock is still the one that others find; not after its folder was replaced.
    pub(super) fn holds(&self) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), std::fs::symlink_metadata(&self.path))
        else {
            return false;
        };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    /// The set, if no process writes it any more. Its lock goes when this is dropped.
    pub(super) fn adopt(folder: &Path, set: &SetName) -> io::Result<Option<Self>> {
        Self::try_set(folder, set)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The prefix's own lock file stays; those that carry a process id would pile up.
        if self.set.process.is_some() && self.holds() {
            // What cannot be removed now is removed by the next one that finds it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock_path(folder: &Path, set: &SetName) -> PathBuf {
    folder.join(format!(".{set}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_gets_a_set_of_its_own_and_cleans_up() {
        let folder = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let first = Owner::acquire(folder.path(), "app").unwrap();
        let second = Owner::acquire(folder.path(), "app").unwrap();
        let third = Owner::acquire(folder.path(), "app").unwrap();
        let sibling = Owner::acquire(folder.path(), "app-web").unwrap();
        assert_eq!(first.set.to_string(), "app");
        assert_eq!(second.set.to_string(), format!("app.p{pid}"));
        assert_eq!(third.set.to_string(), format!("app.p{pid}.2"));
        assert_eq!(sibling.set.to_string(), "app-web");
        assert!(Owner::adopt(folder.path(), &second.set).unwrap().is_none());
        drop((first, second, third, sibling));
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".app-web.lock", ".app.lock"]);
        assert_eq!(Owner::acquire(folder.path(), "app").unwrap().set.to_string(), "app");
    }

    #[test]
    fn a_lock_in_a_replaced_folder_is_worth_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("logs");
        std::fs::create_dir(&folder).unwrap();
        let owner = Owner::acquire(&folder, "app").unwrap();
        assert!(owner.holds());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!owner.holds());
        std::fs::create_dir(&folder).unwrap();
        let next = Owner::acquire(&folder, "app").unwrap();
        assert!(next.holds() && !owner.holds());
    }
}
