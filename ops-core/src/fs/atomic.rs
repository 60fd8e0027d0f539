//! Replacing what a path names in one instant.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::durable::{parent, sync_dir};
use super::failure::failed;
use super::temporary::Temporary;
use crate::error::{Class, Error, ErrorKind};
use crate::fault;

/// Writes a file whole: a temporary beside it, fsync, rename, fsync of the folder.
///
/// The mode is `0o644` less the umask, also where the file existed with another. A symbolic link
/// at `path` is replaced, not followed.
///
/// # Errors
///
/// When the folder is missing or not writable, or the disk is full; the old file is then still
/// there and the temporary is gone. If only the last fsync of the folder failed, the class is
/// [`Class::OutcomeUnknown`]: the new bytes are in place, and may not survive a power loss.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, bytes, None)
}

/// Like [`atomic_write`], with exactly this mode, whatever the umask.
///
/// The bytes are never readable under a wider mode, not even in the temporary.
///
/// # Errors
///
/// As [`atomic_write`].
pub fn atomic_write_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    write(path, bytes, Some(mode))
}

fn write(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), Error> {
    // Created narrow where the mode is exact, so that nobody opens it before the mode is set.
    let create_mode = if mode.is_some() { 0o600 } else { 0o644 };
    let (temporary, mut file) = Temporary::file(path, create_mode)?;
    fill(&mut file, bytes, mode).map_err(|e| failed("write", temporary.path(), e))?;
    fault::point("fs: temporary written");
    fs::rename(temporary.path(), path).map_err(|e| failed("replace", path, e))?;
    temporary.keep();
    fault::point("fs: renamed");
    settle(path)
}

fn fill(file: &mut File, bytes: &[u8], mode: Option<u32>) -> std::io::Result<()> {
    file.write_all(bytes)?;
    if let Some(mode) = mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.sync_all()
}

/// Makes a rename durable; what it did is already visible, so a failure leaves it in doubt.
pub(super) fn settle(path: &Path) -> Result<(), Error> {
    sync_dir(parent(path)).map_err(|error| error.class_of(Class::OutcomeUnknown))
}

/// Points a symbolic link somewhere else in one instant; creates it where there is none.
///
/// `target` is stored as given, so a relative one is relative to the link's folder. It need not
/// exist. The link is never missing for a reader.
///
/// # Errors
///
/// When `link` exists and is no symbolic link, or its folder is missing or not writable; the old
/// link is then still there.
pub fn symlink_swap(link: &Path, target: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(link) {
        Ok(found) if !found.is_symlink() => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("`{}` exists and is no symbolic link", link.display()),
            )
            .remedy("move it away, or choose another name for the link"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", link, error)),
    }
    let temporary = Temporary::symlink(link, target)?;
    fault::point("fs: temporary link made");
    fs::rename(temporary.path(), link).map_err(|e| failed("replace", link, e))?;
    temporary.keep();
    fault::point("fs: link renamed");
    settle(link)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Runs `change` for a number of rounds while three readers look without a pause.
    fn under_readers(look: impl Fn() + Sync, mut change: impl FnMut(u32)) {
        let over = AtomicBool::new(false);
        let looks = std::sync::atomic::AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        look();
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..300 {
                    change(round);
                }
            }));
            over.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        assert!(looks.into_inner() >= 300, "the readers must have looked all the while");
    }

    #[test]
    fn readers_never_see_a_missing_or_half_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let content = |round: u32| vec![b'a' + (round % 26) as u8; 20_000 + round as usize];
        atomic_write(&file, &content(0)).unwrap();
        under_readers(
            || {
                let seen = fs::read(&file).expect("the file is never missing");
                let round = seen.len() as u32 - 20_000;
                assert!(seen == content(round), "a torn file of {} bytes", seen.len());
            },
            |round| atomic_write(&file, &content(round)).unwrap(),
        );
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn readers_never_see_a_missing_link() {
        let dir = tempfile::tempdir().unwrap();
        for target in ["one", "two"] {
            fs::create_dir(dir.path().join(target)).unwrap();
            fs::write(dir.path().join(target).join("name"), target).unwrap();
        }
        let link = dir.path().join("current");
        symlink_swap(&link, Path::new("one")).unwrap();
        under_readers(
            || {
                let seen = fs::read_to_string(link.join("name")).expect("the link always leads");
                assert!(seen == "one" || seen == "two", "{seen}");
            },
            |round| {
                symlink_swap(&link, Path::new(["one", "two"][round as usize % 2])).unwrap();
            },
        );
        assert_eq!(names(dir.path()), ["current", "one", "two"]);
    }

    #[test]
    fn readers_never_see_a_missing_folder_while_two_are_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (live, spare) = (dir.path().join("live"), dir.path().join("spare"));
        for folder in [&live, &spare] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("name"), folder.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        under_readers(
            || {
                fs::read(live.join("name")).expect("the folder is never missing");
            },
            |_| super::super::exchange(&live, &spare).unwrap(),
        );
        assert_eq!(fs::read_to_string(live.join("name")).unwrap(), "live", "300 is even");
    }

    #[test]
    fn the_mode_is_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        atomic_write(&file, b"open").unwrap();
        atomic_write_mode(&file, b"secret", 0o600).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        atomic_write_mode(&file, b"all", 0o666).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn a_link_is_replaced_and_its_target_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        atomic_write(&link, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_failure_leaves_the_old_state_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("inside"), "").unwrap();
        let error = atomic_write(&folder, b"bytes").unwrap_err();
        assert!(error.to_string().starts_with("cannot replace `"), "{error}");
        let error = symlink_swap(&folder, Path::new("elsewhere")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("is no symbolic link; move it away"), "{error}");
        assert_eq!(names(dir.path()), ["folder"]);
        let error = atomic_write(&dir.path().join("no/such"), b"").unwrap_err();
        assert!(error.to_string().contains("no/.such."), "{error}");
    }

    #[test]
    fn a_name_as_long_as_names_get_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("é".repeat(127));
        atomic_write(&file, b"x").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }
}
