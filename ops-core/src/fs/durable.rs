//! Creating, removing and fsyncing so that a power loss does not take it back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::failure::failed;
use crate::error::{Error, ErrorKind};
use crate::fault;

/// The folder that holds this path's name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes what happened to the names in a folder durable.
///
/// A file system that has no fsync for folders (it answers `EINVAL`) is taken at its word: there
/// is nothing more to do on it.
///
/// # Errors
///
/// When the folder is missing, is no folder, cannot be read, or the disk fails.
pub fn sync_dir(folder: &Path) -> Result<(), Error> {
    let opened = File::options()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
        .open(folder)
        .map_err(|e| failed("open the folder", folder, e))?;
    match rustix::fs::fsync(&opened) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(failed("fsync the folder", folder, error)),
    }
}

/// Creates a folder and those above it that are missing, durably. One that exists is fine.
///
/// # Errors
///
/// When something on the way is no folder, or cannot be created.
pub fn create_dir_durable(path: &Path) -> Result<(), Error> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut level = path;
    let existing = loop {
        match fs::metadata(level) {
            Ok(found) if found.is_dir() => break level,
            Ok(_) => return Err(failed("create the folder", path, Errno::NOTDIR)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(level),
            Err(error) => return Err(failed("look at", level, error)),
        }
        let above = parent(level);
        if above == level {
            return Err(failed("create the folder", path, Errno::NOENT));
        }
        level = above;
    };
    // A caller that was killed may have created this level and not yet fsynced its name. The
    // levels above are older than that; those of others may be closed to us.
    match sync_dir(parent(existing)) {
        Err(error) if !is_denied(&error) => return Err(error),
        _ => {}
    }
    for level in missing.into_iter().rev() {
        match fs::create_dir(level) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level.is_dir() => {}
            Err(error) => return Err(failed("create the folder", level, error)),
        }
        fault::point("fs: folder created");
        sync_dir(parent(level))?;
    }
    Ok(())
}

fn is_denied(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::PermissionDenied)
}

/// Removes a folder with all that is in it, durably. An absent one is fine.
///
/// Symbolic links inside are removed, not followed. It is not atomic: a reader sees it shrink, and
/// after a crash it may be half there; call it again.
///
/// # Errors
///
/// When `path` is no folder (also when it is a link to one), or something in it cannot be removed.
pub fn remove_dir_durable(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("`{}` is no folder", path.display()),
            )
            .remedy("it is left alone; remove it by hand if it is not needed"));
        }
        Ok(_) => match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the folder", path, error));
            }
            _ => {}
        },
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(failed("look at", path, error)),
    }
    fault::point("fs: folder removed");
    sync_after_removal(path)
}

/// Removes a file or a link, durably. An absent one is fine.
///
/// # Errors
///
/// When `path` is a folder, or cannot be removed.
pub fn remove_file_durable(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => return Err(failed("remove", path, error)),
        _ => {}
    }
    fault::point("fs: file removed");
    sync_after_removal(path)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Also for what was absent already: a caller that was killed may have removed it unsynced.
fn sync_after_removal(path: &Path) -> Result<(), Error> {
    let folder = parent(path);
    if folder.is_dir() { sync_dir(folder) } else { Ok(()) }
}

/// Makes a tree durable: every file, then every folder from the leaves up, then the name of
/// `path` itself. Links and special files are not followed or opened.
///
/// Nothing may write into the tree meanwhile, or what it writes is not covered.
///
/// # Errors
///
/// When something cannot be read, or the disk fails.
pub fn sync_tree(path: &Path) -> Result<(), Error> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let found = fs::symlink_metadata(path).map_err(|e| failed("look at", path, e))?;
    if found.is_dir() {
        folders.push(path.to_owned());
    } else if found.is_file() {
        sync_file(path)?;
    }
    let mut next = 0;
    while next < folders.len() {
        let folder = folders[next].clone();
        next += 1;
        let entries = fs::read_dir(&folder).map_err(|e| failed("list", &folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &folder, e))?;
            let kind = entry.file_type().map_err(|e| failed("look at", &entry.path(), e))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                sync_file(&entry.path())?;
            }
        }
    }
    // Found from the root down, so backwards every folder comes after those in it.
    for folder in folders.iter().rev() {
        sync_dir(folder)?;
    }
    sync_dir(parent(path))
}

fn sync_file(path: &Path) -> Result<(), Error> {
    // Between the look and the open it may have become a link or a pipe: neither is followed,
    // and the open does not wait for a pipe's other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|e| failed("open", path, e))?;
    file.sync_all().map_err(|e| failed("fsync", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_created_over_several_levels_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_durable(&deep).unwrap();
        create_dir_durable(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        let error = create_dir_durable(&dir.path().join("file/below")).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert!(create_dir_durable(&dir.path().join("file")).is_err());
    }

    #[test]
    fn many_at_once_may_create_the_same_folder() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c/d");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| create_dir_durable(&deep).unwrap());
            }
        });
        assert!(deep.is_dir());
    }

    #[test]
    fn removing_does_not_follow_links_and_does_not_mind_absence() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        create_dir_durable(&tree.join("below")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();

        let error = remove_dir_durable(&link).unwrap_err();
        assert!(error.to_string().contains("is no folder"), "{error}");
        remove_dir_durable(&tree).unwrap();
        remove_dir_durable(&tree).unwrap();
        remove_dir_durable(&tree.join("below/further")).unwrap();
        remove_file_durable(&link).unwrap();
        remove_file_durable(&link).unwrap();
        assert!(outside.join("precious").exists() && !tree.exists());
        assert!(remove_file_durable(&outside).is_err(), "a folder is no file");
    }

    #[test]
    fn a_tree_with_links_and_pipes_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        create_dir_durable(&tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
        std::os::unix::fs::symlink("..", tree.join("a/loop")).unwrap();
        let pipe = rustix::fs::mknodat(
            rustix::fs::CWD,
            tree.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        pipe.unwrap();
        sync_tree(&tree).unwrap();
        sync_tree(&tree.join("a/b/file")).unwrap();
        assert!(sync_tree(&tree.join("missing")).is_err());
    }
}
