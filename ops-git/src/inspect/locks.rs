//! Lock files: of a git that works there, or died there.

use std::path::{Path, PathBuf};

/// How many files below `refs` are looked at.
const REF_FILES: usize = 100_000;

/// Every lock file of a repository.
pub(super) fn locks(repo: &gix::Repository) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [repo.git_dir(), repo.common_dir()] {
        for name in ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"] {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    let mut budget = REF_FILES;
    ref_locks(&repo.common_dir().join("refs"), &mut budget, &mut found);
    found
}

fn ref_locks(folder: &Path, budget: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => ref_locks(&path, budget, found),
            Ok(_) if path.extension().is_some_and(|extension| extension == "lock") => {
                found.push(path);
            }
            _ => {}
        }
    }
}
