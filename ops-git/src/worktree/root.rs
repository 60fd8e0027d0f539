//! A work tree, reached only through folders that are folders.
//!
//! Every path is walked from the root's descriptor without following a symbolic link, so that
//! nothing that somebody plants meanwhile leads a move out of the tree.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::entry::{Stat, stat::Time};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a file keeps through a rename: as long as it exists, nothing else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    inode: u64,
    /// Nanoseconds since 1970; `None` where the file system does not tell.
    born: Option<i64>,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    File {
        executable: bool,
    },
    Link,
    Folder,
    /// A socket, a pipe, a device.
    Other,
}

/// What `lstat` says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub shape: Shape,
    pub identity: Identity,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    pub device: (u32, u32),
    pub mode: u32,
    /// When the inode changed, in nanoseconds since 1970.
    changed: i64,
    owner: (u32, u32),
}

impl Seen {
    /// Whether the bytes are, as far as the file system tells, still those of `other`.
    pub fn unmodified_since(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.size == other.size
            && self.modified == other.modified
            && self.shape == other.shape
    }

    pub fn is_folder(&self) -> bool {
        self.shape == Shape::Folder
    }

    /// What an index notes of it, of every number the low 32 bits, as git does.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as git does")]
    pub fn stat(&self) -> Stat {
        let time = |since: i64| Time {
            secs: since.div_euclid(1_000_000_000) as u32,
            nsecs: since.rem_euclid(1_000_000_000) as u32,
        };
        Stat {
            mtime: time(self.modified),
            ctime: time(self.changed),
            dev: rustix::fs::makedev(self.device.0, self.device.1) as u32,
            ino: self.identity.inode as u32,
            uid: self.owner.0,
            gid: self.owner.1,
            size: self.size as u32,
        }
    }
}

/// The work tree, or the folder that holds what is on its way.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

impl Root {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, FOLDER, Mode::empty())
            .map_err(|errno| Error::io("open the folder", path, errno.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The path on disk, for messages and for what only takes paths.
    pub fn at(&self, path: &BStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// The folder that holds the last part of a path, and that part.
    fn parent<'a>(&self, path: &'a BStr) -> Result<(Folder<'_>, &'a OsStr), Errno> {
        let (folder, name) = split(path);
        Ok((self.folder(folder)?, OsStr::from_bytes(name)))
    }

    /// A folder, reached through folders only; good for what is done in it, not for reading it.
    pub(super) fn folder(&self, folder: &BStr) -> Result<Folder<'_>, Errno> {
        if folder.is_empty() {
            return Ok(Folder::Root(self.fd.as_fd()));
        }
        let flags = FOLDER.union(OFlags::PATH);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.fd, &**folder, flags, Mode::empty(), resolve) {
            // A kernel or a sandbox that does not know the call; the rest is a race with a rename.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG | Errno::AGAIN) => {}
            opened => return opened.map(Folder::Opened),
        }
        let mut at: Option<OwnedFd> = None;
        for part in folder.split_str("/") {
            let from = at.as_ref().map_or(self.fd.as_fd(), OwnedFd::as_fd);
            at = Some(rustix::fs::openat(from, part, flags, Mode::empty())?);
        }
        at.map(Folder::Opened).ok_or(Errno::NOENT)
    }

    /// What is at a path; `None` if nothing is, or if it could only be reached through something
    /// that is no folder.
    pub fn look(&self, path: &BStr) -> Result<Option<Seen>, Error> {
        let found = self.parent(path).and_then(|(folder, name)| look_in(folder.as_fd(), name));
        self.seen(path, found)
    }

    /// The answer to a look.
    pub(super) fn seen(
        &self,
        path: &BStr,
        found: Result<Seen, Errno>,
    ) -> Result<Option<Seen>, Error> {
        match found {
            Ok(seen) => Ok(Some(seen)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.failed("look at", path, errno)),
        }
    }

    /// A new file, whose name nothing has yet.
    pub fn create(&self, path: &BStr, mode: u32) -> Result<std::fs::File, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.parent(path)
            .and_then(|(folder, name)| {
                rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode))
            })
            .map(std::fs::File::from)
            .map_err(|errno| self.failed("create", path, errno))
    }

    /// The names in a folder, sorted.
    pub fn list(&self, folder: &BStr) -> Result<Vec<BString>, Error> {
        let failed = |errno| self.failed("list", folder, errno);
        let (parent, name) = self.parent(folder).map_err(failed)?;
        let fd = rustix::fs::openat(&parent, name, FOLDER, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(BString::from(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The bytes of a file, or the target of a link.
    pub fn read(&self, path: &BStr, shape: Shape) -> Result<Vec<u8>, Error> {
        let failed = |errno| self.failed("read", path, errno);
        let (folder, name) = self.parent(path).map_err(failed)?;
        if shape == Shape::Link {
            let target = rustix::fs::readlinkat(&folder, name, Vec::new()).map_err(failed)?;
            return Ok(target.into_bytes());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(failed)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(fd), &mut bytes)
            .map_err(|source| Error::io("read", &self.at(path), source))?;
        Ok(bytes)
    }

    /// Moves something to a name that nothing has, in one instant.
    pub fn rename(&self, path: &BStr, to: &Self, name: &BStr) -> Result<(), Error> {
        self.rename_with(path, to, name, RenameFlags::NOREPLACE)
            .map_err(|errno| self.failed("move", path, errno).with("to", to.at(name).display()))
    }

    /// Exchanges two things in one instant: neither name is ever missing.
    pub fn exchange(&self, path: &BStr, with: &Self, name: &BStr) -> Result<(), Error> {
        self.rename_with(path, with, name, RenameFlags::EXCHANGE).map_err(|errno| {
            self.failed("exchange", path, errno).with("with", with.at(name).display())
        })
    }

    fn rename_with(
        &self,
        path: &BStr,
        to: &Self,
        name: &BStr,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let (from_folder, from_name) = self.parent(path)?;
        let (to_folder, to_name) = to.parent(name)?;
        rustix::fs::renameat_with(&from_folder, from_name, &to_folder, to_name, flags)
    }

    /// Makes a folder; one that is there is fine.
    pub fn make_folder(&self, path: &BStr, mode: u32) -> Result<(), Error> {
        let made = self.parent(path).and_then(|(folder, name)| {
            rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(mode))
        });
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.look(path)?.is_some_and(|seen| seen.is_folder()) => Ok(()),
            Err(errno) => Err(self.failed("create the folder", path, errno)),
        }
    }

    /// Gives a folder this mode, whatever the umask.
    pub fn set_mode(&self, path: &BStr, mode: u32) -> Result<(), Error> {
        let (folder, name) =
            self.parent(path).map_err(|errno| self.failed("reach", path, errno))?;
        let fd = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())
            .map_err(|errno| self.failed("open", path, errno))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
            .map_err(|errno| self.failed("set the mode of", path, errno))
    }

    /// Removes a folder if it is empty; whether it is gone.
    pub fn remove_folder(&self, path: &BStr) -> Result<bool, Error> {
        let removed = self
            .parent(path)
            .and_then(|(folder, name)| rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            // A mount point and the folder of a running process are left, as git leaves them.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::LOOP | Errno::BUSY) => {
                Ok(false)
            }
            Err(errno) => Err(self.failed("remove the folder", path, errno)),
        }
    }

    /// Makes the names in a folder durable; one that is gone needs nothing.
    pub fn sync_folder(&self, path: &BStr) -> Result<(), Error> {
        let opened = if path.is_empty() {
            self.fd.try_clone().map_err(|_| Errno::MFILE)
        } else {
            self.parent(path)
                .and_then(|(folder, name)| rustix::fs::openat(&folder, name, FOLDER, Mode::empty()))
        };
        match opened.and_then(rustix::fs::fsync) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed("make durable", path, errno)),
        }
    }

    /// Makes the whole file system durable: for thousands of files one call instead of thousands.
    pub fn sync_all(&self) -> Result<(), Error> {
        rustix::fs::syncfs(self.fd.as_fd())
            .map_err(|errno| self.failed("make durable", BStr::new(""), errno))
    }

    fn failed(&self, action: &str, path: &BStr, errno: Errno) -> Error {
        let error = Error::io(action, &self.at(path), errno.into());
        match errno {
            Errno::NOSPC => error.remedy("free some space and try again; nothing was changed"),
            Errno::EXIST => error.remedy("something appeared there meanwhile: look at it first"),
            Errno::NOSYS | Errno::INVAL => error.remedy(
                "this file system cannot exchange names atomically: keep the work tree on ext4, \
                 xfs, btrfs or tmpfs",
            ),
            _ => error,
        }
    }
}

/// A folder that was reached.
#[derive(Debug)]
pub(super) enum Folder<'a> {
    Root(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

/// The folder of a path, empty for the root, and the last part.
pub(super) fn split(path: &BStr) -> (&BStr, &[u8]) {
    path.rfind_byte(b'/')
        .map_or((BStr::new(""), path), |slash| (path[..slash].as_bstr(), &path[slash + 1..]))
}

/// What has a name in a folder.
pub(super) fn look_in(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Seen, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let mode = u32::from(stat.stx_mode);
    let shape = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Shape::File { executable: mode & 0o100 != 0 },
        FileType::Symlink => Shape::Link,
        FileType::Directory => Shape::Folder,
        _ => Shape::Other,
    };
    let nanoseconds = |seconds: i64, nanoseconds: u32| {
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into())
    };
    let born = StatxFlags::from_bits_retain(stat.stx_mask)
        .contains(StatxFlags::BTIME)
        .then(|| nanoseconds(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
    Ok(Seen {
        shape,
        identity: Identity { inode: stat.stx_ino, born },
        size: stat.stx_size,
        modified: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        mode: mode & 0o7777,
        changed: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        owner: (stat.stx_uid, stat.stx_gid),
    })
}

/// The folders above a path, the outermost first.
pub(super) fn above(path: &BStr) -> impl Iterator<Item = &BStr> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| path[..at].as_bstr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("real")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let (root, keep) = (Root::open(&tree).unwrap(), Root::open(dir.path()).unwrap());
        assert_eq!(root.look("link/precious".into()).unwrap(), None);
        assert_eq!(root.look("link".into()).unwrap().unwrap().shape, Shape::Link);
        assert!(root.rename("link/precious".into(), &keep, "taken".into()).is_err());
        assert!(root.make_folder("link/new".into(), 0o755).is_err());
        assert!(!root.remove_folder("link".into()).unwrap());
        assert!(outside.join("precious").exists() && !outside.join("new").exists());
        root.make_folder("real/deep".into(), 0o755).unwrap();
        root.make_folder("real/deep".into(), 0o755).unwrap();
        assert!(!root.remove_folder("real".into()).unwrap());
        assert!(root.remove_folder("real/deep".into()).unwrap());
        assert_eq!(root.list("real".into()).unwrap(), Vec::<BString>::new());
    }

    #[test]
    fn a_name_that_is_taken_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("a", "a"), ("b", "b")] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let before = root.look("a".into()).unwrap().unwrap();
        assert!(root.rename("a".into(), &root, "b".into()).is_err());
        root.exchange("a".into(), &root, "b".into()).unwrap();
        let after = root.look("b".into()).unwrap().unwrap();
        assert!(after.unmodified_since(&before));
        assert_eq!(root.read("a".into(), after.shape).unwrap(), b"b");
    }

    #[test]
    fn an_index_notes_what_git_notes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), "abc").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let seen = root.look("d/a".into()).unwrap().unwrap();
        let meta = gix::index::fs::Metadata::from_path_no_follow(&dir.path().join("d/a")).unwrap();
        assert_eq!(seen.stat(), Stat::from_fs(&meta).unwrap());
    }

    #[test]
    fn folders_above() {
        let all: Vec<_> = above("a/b/c".into()).collect();
        assert_eq!(all, ["a", "a/b"]);
        assert_eq!(above("a".into()).count(), 0);
    }
}
