//! Lock files: of a git that works there, or died there.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::presence;

/// How many files below `refs` are looked at.
const REF_FILES: usize = 100_000;

/// Every lock file of a repository.
pub(super) fn locks(repo: &gix::Repository) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for folder in [repo.git_dir(), repo.common_dir()] {
        for name in ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"] {
            let path = folder.join(name);
            if presence::is_at(&path)? && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    let mut budget = REF_FILES;
    ref_locks(&repo.common_dir().join("refs"), &mut budget, &mut found)?;
    Ok(found)
}

fn ref_locks(folder: &Path, budget: &mut usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let io = |source| Error::io("list", folder, source);
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        // Empty folders come and go with the refs in them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        if *budget == 0 {
            return Ok(());
        }
        *budget -= 1;
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => ref_locks(&path, budget, found)?,
            Ok(_) if path.extension().is_some_and(|extension| extension == "lock") => {
                found.push(path);
            }
            _ => {}
        }
    }
    Ok(())
}
