//! Giving things other names, durably.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::atomic::settle;
use super::durable::parent;
use super::failure::failed;
use crate::error::Error;
use crate::fault;

/// Renames, and makes it durable in both folders. Like `rename(2)` it replaces a file or an empty
/// folder at `to`, in one instant.
///
/// # Errors
///
/// When `from` is missing, the paths lie on two file systems, or `to` is a folder with something
/// in it; nothing has then changed. If only an fsync failed, the class is
/// [`OutcomeUnknown`](crate::Class::OutcomeUnknown).
pub fn rename_durable(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|e| failed(&renaming(to), from, e))?;
    fault::point("fs: renamed");
    settle_both(from, to)
}

/// Renames unless `to` exists, in one instant, and makes it durable in both folders.
///
/// # Errors
///
/// As [`rename_durable`]; and when something is at `to`, even a dangling link, with an
/// [`io::Error`](std::io::Error) of kind `AlreadyExists` as its source; and when the file system
/// does not know this call.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<(), Error> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(error) if is_unsupported(error) => {
            return Err(unsupported(&renaming(to), "rename without replacing", from, error));
        }
        Err(error) => return Err(failed(&renaming(to), from, error)),
    }
    fault::point("fs: renamed");
    settle_both(from, to)
}

/// Exchanges two names in one instant: neither is ever missing. Files, folders and links alike.
///
/// Calling it twice undoes it: a caller that may have been interrupted looks first.
///
/// # Errors
///
/// When either is missing, they lie on two file systems, or the file system does not know this
/// call; nothing has then changed.
pub fn exchange(a: &Path, b: &Path) -> Result<(), Error> {
    let action = format!("exchange with `{}`", b.display());
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(error) if is_unsupported(error) => {
            return Err(unsupported(&action, "exchange two names", a, error));
        }
        Err(error) => return Err(failed(&action, a, error)),
    }
    fault::point("fs: exchanged");
    settle_both(a, b)
}

fn renaming(to: &Path) -> String {
    format!("rename to `{}`", to.display())
}

fn settle_both(from: &Path, to: &Path) -> Result<(), Error> {
    settle(to)?;
    if parent(from) == parent(to) { Ok(()) } else { settle(from) }
}

/// Old kernels answer `ENOSYS`; file systems without the flag `EINVAL` (which also means that a
/// folder was to move into itself).
fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)
}

fn unsupported(action: &str, call: &str, path: &Path, error: Errno) -> Error {
    failed(action, path, error).remedy(format!(
        "this file system cannot {call} atomically: keep both on ext4, xfs, btrfs or tmpfs \
         (and neither inside the other)"
    ))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn io_kind(error: &Error) -> std::io::ErrorKind {
        error.source().unwrap().downcast_ref::<std::io::Error>().unwrap().kind()
    }

    #[test]
    fn renaming_replaces_or_refuses_as_its_name_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("other")).unwrap();
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "b").unwrap();
        let error = rename_noreplace(&at("a"), &at("b")).unwrap_err();
        assert_eq!(io_kind(&error), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(at("b")).unwrap(), "b");
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let error = rename_noreplace(&at("a"), &at("dangling")).unwrap_err();
        assert_eq!(io_kind(&error), std::io::ErrorKind::AlreadyExists);

        rename_durable(&at("a"), &at("b")).unwrap();
        assert_eq!(fs::read_to_string(at("b")).unwrap(), "a");
        rename_noreplace(&at("b"), &at("other/c")).unwrap();
        assert_eq!(fs::read_to_string(at("other/c")).unwrap(), "a");
        let error = rename_durable(&at("b"), &at("a")).unwrap_err();
        assert_eq!(io_kind(&error), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn an_exchange_swaps_what_is_unlike() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&folder).unwrap();
        exchange(&file, &folder).unwrap();
        assert!(file.is_dir() && folder.is_file());
        let error = exchange(&file, &dir.path().join("missing")).unwrap_err();
        assert_eq!(io_kind(&error), std::io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot exchange with `"), "{error}");
    }

    #[test]
    fn a_move_into_itself_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let error = rename_noreplace(&folder, &folder.join("inside")).unwrap_err();
        assert!(error.to_string().contains("neither inside the other"), "{error}");
    }
}
