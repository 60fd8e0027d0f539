//! Whose a lock file is, and how old it is.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::presence;

/// What a lock of an operation of ours says before the operation's id.
pub(crate) const MARK: &str = "ops-git ";

/// How many open files of processes are looked at to find who holds a lock.
const OPEN_FILES: usize = 50_000;

/// A lock file that is there.
#[derive(Debug, Clone)]
pub(crate) struct LockFile {
    pub path: PathBuf,
    pub age: Duration,
    /// As far as the machine tells: an operation, a process, a user.
    pub owner: String,
}

impl LockFile {
    /// What is at a path; `None` if it is gone by now.
    pub fn at(path: &Path) -> Option<Self> {
        let meta = path.symlink_metadata().ok()?;
        let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        Some(Self {
            path: path.to_owned(),
            age: age.unwrap_or(Duration::ZERO),
            owner: owner(path, meta.uid()),
        })
    }
}

impl fmt::Display for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, age, owner } = self;
        write!(f, "lock file `{}`, {} s old, of {owner}", path.display(), age.as_secs())
    }
}

/// The operation of ours that says in a lock that it is its own.
pub(crate) fn operation(lock: &Path) -> Option<String> {
    // Others' locks may be as large as an index.
    lock.symlink_metadata().ok().filter(|meta| meta.len() < 200)?;
    let text = fs::read_to_string(lock).ok()?;
    Some(text.strip_prefix(MARK)?.trim_end().to_owned())
}

/// Whether a lock is another user's, or a living process has it open. Where that cannot be told, it
/// is held.
pub(crate) fn is_held(path: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    match presence::at(path) {
        Ok(None) => false,
        Ok(Some(meta)) if meta.uid() == ours => !matches!(holder(path), Ok(None)),
        _ => true,
    }
}

fn owner(path: &Path, uid: u32) -> String {
    let user = user(uid);
    if let Some(operation) = operation(path) {
        return format!("operation {operation}, {user}");
    }
    match holder(path) {
        Ok(Some((pid, name))) => format!("process {pid} (`{name}`), {user}"),
        Ok(None) | Err(_) => user,
    }
}

fn user(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.map_or_else(|| format!("user {uid}"), |name| format!("user `{name}`"))
}

/// A process that has a file open, among those that may be looked at; an error where that cannot be
/// told.
///
/// Not seen are processes of another machine or container that share the file system, and those of
/// this user that have more rights than this one.
fn holder(path: &Path) -> io::Result<Option<(u32, String)>> {
    holder_in(Path::new("/proc"), path, OPEN_FILES)
}

fn holder_in(proc: &Path, path: &Path, mut left: usize) -> io::Result<Option<(u32, String)>> {
    let unknown = |what: &str| Err(io::Error::other(what.to_owned()));
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return unknown("a lock has a name");
    };
    let path = folder.canonicalize()?.join(name);
    let mut saw_ourselves = false;
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        saw_ourselves |= pid == std::process::id();
        let files = match entry.path().join("fd").read_dir() {
            Ok(files) => files,
            Err(error) if is_closed(&error) => continue,
            Err(error) => return Err(error),
        };
        for file in files {
            if left == 0 {
                return unknown("too many files are open");
            }
            left -= 1;
            match file.and_then(|file| file.path().read_link()) {
                Ok(target) if target == path => {
                    let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                    return Ok(Some((pid, name.trim().to_owned())));
                }
                Err(error) if !is_closed(&error) => return Err(error),
                _ => {}
            }
        }
    }
    if saw_ourselves { Ok(None) } else { unknown("these are not the processes around this one") }
}

/// Whether a process or its file is gone by now, or is none that may be looked at.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_an_operation_a_process_or_a_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.lock");
        assert!(LockFile::at(&path).is_none());
        let open = fs::File::create(&path).unwrap();
        let me = user(rustix::process::getuid().as_raw());
        let held = LockFile::at(&path).unwrap();
        assert!(held.owner.starts_with(&format!("process {} (`", std::process::id())), "{held}");
        assert!(held.owner.ends_with(&me), "{held}");
        drop(open);
        assert_eq!(LockFile::at(&path).unwrap().owner, me);
        fs::write(&path, "ops-git 01ABC\n").unwrap();
        assert_eq!(LockFile::at(&path).unwrap().owner, format!("operation 01ABC, {me}"));
        assert!(LockFile::at(&path).unwrap().to_string().contains("index.lock`, 0 s old, of "));
    }
    #[test]
    fn a_lock_of_which_nothing_can_be_told_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.lock");
        fs::write(&path, "").unwrap();
        assert!(holder(&path).unwrap().is_none() && !is_held(&path));
        assert!(!is_held(&dir.path().join("none")));
        assert!(is_held(&dir.path().join("long".repeat(100))));
        // No `/proc` at all, one of other processes, one that closes up, and one that is too large.
        let proc = dir.path().join("proc");
        assert!(holder_in(&proc, &path, OPEN_FILES).is_err());
        fs::create_dir_all(proc.join("1/fd")).unwrap();
        assert!(holder_in(&proc, &path, OPEN_FILES).is_err());
        let own = proc.join(std::process::id().to_string());
        fs::create_dir_all(own.join("fd")).unwrap();
        assert!(holder_in(&proc, &path, OPEN_FILES).unwrap().is_none());
        std::os::unix::fs::symlink("elsewhere", own.join("fd/0")).unwrap();
        assert!(holder_in(&proc, &path, 1).unwrap().is_none());
        assert!(holder_in(&proc, &path, 0).is_err());
        fs::remove_dir_all(proc.join("1/fd")).unwrap();
        fs::write(proc.join("1/fd"), "").unwrap();
        assert!(holder_in(&proc, &path, OPEN_FILES).is_err());
    }
}
