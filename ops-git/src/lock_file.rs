//! Whose a lock file is, and how old it is.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// Whether a lock is another user's, or a living process has it open.
pub(crate) fn is_held(path: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|meta| meta.uid() != ours) || holder(path).is_some()
}

fn owner(path: &Path, uid: u32) -> String {
    let user = user(uid);
    if let Some(operation) = operation(path) {
        return format!("operation {operation}, {user}");
    }
    match holder(path) {
        Some((pid, name)) => format!("process {pid} (`{name}`), {user}"),
        None => user,
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

/// A process that has a file open, among those that we may look at.
fn holder(path: &Path) -> Option<(u32, String)> {
    let path = path.parent()?.canonicalize().ok()?.join(path.file_name()?);
    let mut left = OPEN_FILES;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for file in entry.path().join("fd").read_dir().into_iter().flatten().flatten() {
            if left == 0 {
                return None;
            }
            left -= 1;
            if file.path().read_link().is_ok_and(|target| target == path) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                return Some((pid, name.trim().to_owned()));
            }
        }
    }
    None
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
}
