//! References, moved by compare-and-swap, and durable when the call returns.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use gix::lock::acquire::Fail;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::lock_file::{LockFile, is_held};
use crate::path_bytes::on_disk;

/// How long to wait for another git's lock on a ref: its own are held for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The value of a ref, followed to a commit.
pub(crate) fn tip(repo: &gix::Repository, name: &FullName) -> Result<Option<gix::ObjectId>, Error> {
    let found =
        repo.try_find_reference(name).doing(|| format!("`{}` cannot be read", name.as_bstr()))?;
    found
        .map(|mut reference| {
            reference
                .peel_to_id()
                .map(gix::Id::detach)
                .doing(|| format!("`{}` leads to nothing that can be read", name.as_bstr()))
        })
        .transpose()
}

/// One change of a ref: from what it must be now to what it shall be; `None` is absence.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub name: FullName,
    pub from: Option<gix::ObjectId>,
    pub to: Option<gix::ObjectId>,
    /// What the reflog says.
    pub message: String,
}

impl Move {
    fn edit(&self) -> Option<RefEdit> {
        let expected = match self.from {
            Some(id) => PreviousValue::MustExistAndMatch(Target::Object(id)),
            None => PreviousValue::MustNotExist,
        };
        let change = match (self.from, self.to) {
            (_, Some(id)) => Change::Update {
                log: LogChange {
                    mode: RefLog::AndReference,
                    force_create_reflog: self.name.as_bstr().starts_with(b"refs/heads/"),
                    message: self.message.clone().into(),
                },
                expected,
                new: Target::Object(id),
            },
            (Some(_), None) => Change::Delete { expected, log: RefLog::AndReference },
            (None, None) => return None,
        };
        Some(RefEdit { change, name: self.name.clone(), deref: false })
    }
}

/// Moves refs, each only if it is where it is expected to be, and makes that durable.
///
/// The new value is on disk before the rename that puts it into place, so a power loss leaves the
/// old or the new one.
///
/// # Errors
/// [`ErrorKind::Moved`] if a ref is elsewhere; a temporary error if another git holds its lock.
pub(crate) fn apply(repo: &gix::Repository, moves: &[Move]) -> Result<(), Error> {
    let edits: Vec<_> = moves.iter().filter_map(Move::edit).collect();
    if edits.is_empty() {
        return Ok(());
    }
    let names =
        || moves.iter().map(|m| format!("`{}`", m.name.as_bstr())).collect::<Vec<_>>().join(", ");
    let written: Vec<_> = moves.iter().filter(|m| m.to.is_some()).map(|m| &m.name).collect();
    commit(repo, edits, &written, names).map_err(|failed| match failed {
        Failed::Prepare(source) => {
            let mut found = moves.iter().map(|m| (m, tip_raw(repo, &m.name)));
            let moved = found
                .find_map(|(m, now)| now.ok().filter(|now| *now != m.from).map(|now| (m, now)));
            let Some((m, now)) = moved else {
                let lock = |name: &&FullName| LockFile::at(&lock_of(repo.common_dir(), name));
                return not_locked(&names(), written.iter().find_map(lock), source);
            };
            let at = (shown(now), shown(m.from));
            let what = format!("`{}` is at {}, not at {}", m.name.as_bstr(), at.0, at.1);
            Error::new(ErrorKind::Moved, what)
                .remedy("find out who moved it, then plan afresh")
                .caused_by(source)
        }
        Failed::Later(error) => error,
    })?;
    make_durable(repo, moves.iter().map(|m| &m.name))
}

/// Points `HEAD` from one branch to another, which need not exist, and makes that durable.
///
/// # Errors
/// [`ErrorKind::Moved`] if it points elsewhere; a temporary error if another git holds its lock.
pub(crate) fn point_head(
    repo: &gix::Repository,
    from: &FullName,
    to: &FullName,
    message: &str,
) -> Result<(), Error> {
    let head = FullName::try_from("HEAD").expect("it is a ref's name");
    let now = repo.head_name().doing(|| "HEAD cannot be read".into())?;
    if now.as_ref() != Some(from) {
        let now =
            now.map_or_else(|| "no branch".to_owned(), |name| format!("`{}`", name.as_bstr()));
        return Err(Error::new(
            ErrorKind::Moved,
            format!("HEAD points to {now}, not to `{}`", from.as_bstr()),
        )
        .remedy("find out who pointed it there, then plan afresh"));
    }
    let edit = RefEdit {
        change: Change::Update {
            log: LogChange {
                mode: RefLog::AndReference,
                force_create_reflog: false,
                message: message.into(),
            },
            expected: PreviousValue::MustExistAndMatch(Target::Symbolic(from.clone())),
            new: Target::Symbolic(to.clone()),
        },
        name: head.clone(),
        deref: false,
    };
    commit(repo, vec![edit], &[&head], || "`HEAD`".into()).map_err(|failed| match failed {
        Failed::Prepare(source) => {
            not_locked("`HEAD`", LockFile::at(&lock_of(repo.common_dir(), &head)), source)
        }
        Failed::Later(error) => error,
    })?;
    make_durable(repo, std::iter::once(&head))
}

/// Where a transaction failed: before anything changed, or later.
enum Failed {
    Prepare(gix::Error),
    Later(Error),
}

fn not_locked(names: &str, lock: Option<LockFile>, source: gix::Error) -> Error {
    let held = lock.map_or_else(String::new, |lock| format!(": {lock}, is held"));
    Error::git(format!("{names} cannot be locked{held}"), source)
        .class_of(ops_core::Class::Temporary)
        .remedy("remove the lock file only if no git process runs there")
}

fn commit(
    repo: &gix::Repository,
    edits: Vec<RefEdit>,
    written: &[&FullName],
    names: impl Fn() -> String,
) -> Result<(), Failed> {
    // A bare repository keeps no logs unless told, and the log is how a person goes back.
    let mut store = repo.refs.clone();
    store.write_reflog = gix::refs::store::WriteReflog::Normal;
    let wait = Fail::AfterDurationWithBackoff(LOCK_WAIT);
    let prepared = store.transaction().prepare(edits, wait, wait).map_err(Failed::Prepare)?;
    for name in written {
        sync_if_there(&lock_of(repo.common_dir(), name)).map_err(Failed::Later)?;
    }
    ops_core::fault::point("git-ref-locked");
    let signature = gix::actor::Signature {
        name: "ops-git".into(),
        email: "ops-git@localhost".into(),
        time: gix::date::Time::now_utc(),
    };
    let mut time = gix::date::parse::TimeBuf::default();
    prepared
        .commit(Some(signature.to_ref(&mut time)))
        .map(drop)
        .doing(|| format!("{} cannot be moved", names()))
        .map_err(Failed::Later)?;
    ops_core::fault::point("git-ref-renamed");
    Ok(())
}

/// Removes the lock of a ref that this operation left behind when it was killed.
///
/// gix locks a ref by a file beside it that holds the new value. Git holds such a lock for
/// milliseconds, so one that stays, that nobody has open, and that holds what only we write there,
/// or nothing yet, is ours. Whatever else it holds is somebody else's and stays.
pub(crate) fn clear_own_lock(
    repo: &gix::Repository,
    name: &FullName,
    ours: &[String],
) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let path = lock_of(repo.common_dir(), name);
    let seen = || -> Option<(u64, i64, i64, Vec<u8>)> {
        let meta = path.symlink_metadata().ok()?;
        let content = std::fs::read(&path).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), content))
    };
    let Some(first) = seen() else { return Ok(()) };
    let is_ours = first.3.is_empty() || ours.iter().any(|line| line.as_bytes() == first.3);
    if !is_ours {
        return Ok(());
    }
    let begun = std::time::Instant::now();
    while begun.elapsed() < LOCK_WAIT {
        std::thread::sleep(Duration::from_millis(50));
        if seen().as_ref() != Some(&first) {
            return Ok(());
        }
    }
    if is_held(&path) {
        return Ok(());
    }
    Ok(ops_core::fs::remove_file_durable(&path)?)
}

/// Removes a ref that only its operation knows, so that no lock is needed, with the lock that it
/// may have left; durably.
pub(crate) fn remove_private(repo: &gix::Repository, name: &FullName) -> Result<(), Error> {
    let path = repo.common_dir().join(on_disk(name.as_bstr()));
    for file in [lock_of(repo.common_dir(), name), path.clone()] {
        // Also what is gone already: a run that was killed may not have made that durable.
        ops_core::fs::remove_file_durable(&file)?;
    }
    // A gc may have packed it meanwhile.
    if let Some(from) = tip_raw(repo, name)? {
        let message = String::new();
        apply(repo, &[Move { name: name.clone(), from: Some(from), to: None, message }])?;
    }
    // Empty folders of past operations would pile up; one that is not empty stays.
    let above = path
        .ancestors()
        .skip(1)
        .take_while(|a| a.starts_with(repo.common_dir().join("refs/ops-git")));
    for folder in above {
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Waits a moment for whoever holds the lock of a ref, and says so if it stays.
pub(crate) fn not_locked_by_others(repo: &gix::Repository, name: &FullName) -> Result<(), Error> {
    let path = lock_of(repo.common_dir(), name);
    let begun = std::time::Instant::now();
    while path.symlink_metadata().is_ok() {
        if begun.elapsed() > LOCK_WAIT {
            return Err(Error::new(
                ErrorKind::Git,
                format!("`{}` is locked by `{}`", name.as_bstr(), path.display()),
            )
            .class_of(ops_core::Class::Temporary)
            .remedy("remove the lock file only if no git process runs there"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn shown(id: Option<gix::ObjectId>) -> String {
    id.map_or_else(|| "no commit".to_owned(), |id| id.to_string())
}

/// What a ref holds, not followed.
pub(crate) fn tip_raw(
    repo: &gix::Repository,
    name: &FullName,
) -> Result<Option<gix::ObjectId>, Error> {
    let found =
        repo.try_find_reference(name).doing(|| format!("`{}` cannot be read", name.as_bstr()))?;
    Ok(found.and_then(|found| found.try_id().map(gix::Id::detach)))
}

fn lock_of(common_dir: &Path, name: &FullName) -> std::path::PathBuf {
    let mut path = common_dir.join(on_disk(name.as_bstr())).into_os_string();
    path.push(".lock");
    path.into()
}

/// Makes refs durable that were written already: files, logs, packed refs, and every folder that
/// may have been made for them.
pub(crate) fn make_durable<'a>(
    repo: &gix::Repository,
    names: impl Iterator<Item = &'a FullName>,
) -> Result<(), Error> {
    let common = repo.common_dir();
    let mut folders = std::collections::BTreeSet::from([common.to_owned()]);
    for name in names {
        let relative = on_disk(name.as_bstr());
        for path in [common.join(relative), common.join("logs").join(relative)] {
            if !sync_if_there(&path)? && path.starts_with(common.join("logs")) {
                // No log is kept of this one.
                continue;
            }
            let ancestors = path.ancestors().skip(1).take_while(|a| a.starts_with(common));
            folders.extend(ancestors.filter(|folder| folder.is_dir()).map(Path::to_owned));
        }
    }
    sync_if_there(&common.join("packed-refs"))?;
    for folder in folders {
        sync_if_there(&folder)?;
    }
    Ok(())
}

/// Works for files and, on Unix, for folders. Whether it is there.
pub(crate) fn sync_if_there(path: &Path) -> Result<bool, Error> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("make durable", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_that_cannot_be_looked_up_is_not_said_to_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        gix::init_bare(dir.path()).unwrap();
        let name = FullName::try_from("refs/ops-git/x/main").unwrap();
        let open = || crate::repository::open_git_dir(dir.path()).unwrap();
        remove_private(&open(), &name).unwrap();
        std::fs::create_dir(dir.path().join("packed-refs")).unwrap();
        assert!(tip_raw(&open(), &name).is_err());
        assert!(remove_private(&open(), &name).is_err());
    }
}
