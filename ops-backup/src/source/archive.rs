//! The tar stream of a directory, and its extraction, which trusts nothing in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::{Component, Path, PathBuf};

use filetime::FileTime;
use ops_core::Refusal;
use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

use super::filter::Filter;
use crate::error::{Error, ErrorKind};

/// More reasons than this help nobody.
const MAX_REFUSALS: usize = 100;

/// Walks what is taken, in the order of names.
fn walk<'a>(
    root: &'a Path,
    filter: &'a Filter,
) -> impl Iterator<Item = walkdir::Result<walkdir::DirEntry>> + 'a {
    WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(move |entry| {
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        filter.takes(inside, entry.file_type().is_dir())
    })
}

pub(super) fn refusals(root: &Path, filter: &Filter) -> Vec<Refusal> {
    if !root.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        let reason = format!("`{}` is no directory", root.display());
        return vec![Refusal::new(reason, "name an existing directory, not a link to one")];
    }
    let mut reasons = Vec::new();
    for entry in walk(root, filter) {
        match entry {
            Ok(entry) => {
                let kind = entry.file_type();
                let special = kind.is_socket() || kind.is_fifo() || kind.is_block_device();
                if special || kind.is_char_device() {
                    reasons.push(Refusal::new(
                        format!("`{}` is a socket, pipe or device", entry.path().display()),
                        "move it out of the directory",
                    ));
                }
            }
            Err(error) => {
                reasons.push(Refusal::new(error.to_string(), "make it readable for this user"));
            }
        }
        if reasons.len() == MAX_REFUSALS {
            break;
        }
    }
    reasons
}

/// About how long the tar stream will be, as long as somebody `asks`.
pub(super) fn size(root: &Path, filter: &Filter, asks: impl Fn() -> bool) -> u64 {
    const BLOCK: u64 = 512;
    let length = |entry: walkdir::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_file() => BLOCK + meta.len().next_multiple_of(BLOCK),
        _ => BLOCK,
    };
    walk(root, filter).take_while(|_| asks()).flatten().map(length).sum()
}

pub(super) fn write(root: &Path, filter: &Filter, out: &mut dyn Write) -> Result<(), Error> {
    let mut tar = Builder::new(out);
    let mut linked = HashMap::new();
    for entry in walk(root, filter) {
        let entry = entry.map_err(|e| {
            let gone = e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
            let kind = if gone { ErrorKind::Changed } else { ErrorKind::Source };
            Error::new(kind, format!("cannot walk `{}`", root.display())).caused_by(e)
        })?;
        let path = entry.path();
        let inside = path.strip_prefix(root).unwrap_or(path);
        let name = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        append(&mut tar, path, name, &mut linked)?;
    }
    tar.finish().map_err(|e| Error::io("archive", root, e))
}

fn append(
    tar: &mut Builder<&mut dyn Write>,
    path: &Path,
    name: &Path,
    linked: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<(), Error> {
    let failed = |e: io::Error| {
        // It was listed a moment ago.
        if e.kind() == io::ErrorKind::NotFound {
            changed(path)
        } else {
            Error::io("archive", path, e)
        }
    };
    let meta = path.symlink_metadata().map_err(failed)?;
    let mut header = Header::new_gnu();
    describe(&mut header, &meta);
    header.set_size(0);
    if meta.is_dir() {
        return put(tar, header, name, None, io::empty()).map_err(failed);
    }
    if meta.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        return put(tar, header, name, Some(&target), io::empty()).map_err(failed);
    }
    if !meta.is_file() {
        return Err(Error::new(
            ErrorKind::Source,
            format!("`{}` is a socket, pipe or device", path.display()),
        ));
    }
    if meta.nlink() > 1 {
        if let Some(first) = linked.get(&(meta.dev(), meta.ino())) {
            header.set_entry_type(EntryType::Link);
            return put(tar, header, name, Some(first), io::empty()).map_err(failed);
        }
        linked.insert((meta.dev(), meta.ino()), name.to_owned());
    }
    let mut file = open_regular(path, &meta)?;
    let opened = file.metadata().map_err(failed)?;
    describe(&mut header, &opened);
    header.set_size(opened.len());
    let mut exact = Exact { file: (&mut file).take(opened.len()), short: false };
    let written = put(tar, header, name, None, &mut exact);
    let short = exact.short;
    let now = file.metadata().map_err(failed)?;
    let state = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
    if short || state(&opened) != state(&now) {
        return Err(changed(path));
    }
    written.map_err(failed)
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Changed, format!("`{}` changed while it was read", path.display()))
        .remedy("stop its writer, or back it up with a source that knows it, and try again")
}

/// Opens the file that was looked at. Whoever may write to the folder may have put a link to a
/// secret in its place, or a pipe, which would be waited for.
fn open_regular(path: &Path, seen: &Metadata) -> Result<File, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file =
        opened.map_err(|e| match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) => {
                changed(path)
            }
            _ => Error::io("archive", path, e),
        })?;
    let opened = file.metadata().map_err(|e| Error::io("archive", path, e))?;
    if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) || !opened.is_file() {
        return Err(changed(path));
    }
    Ok(file)
}

fn describe(header: &mut Header, meta: &Metadata) {
    header.set_metadata(meta);
    let time = meta.mtime();
    if time < 0 {
        // Before 1970, as GNU tar writes it: the number's two's complement over all twelve bytes.
        if let Some(header) = header.as_gnu_mut() {
            header.mtime = [0xff; 12];
            header.mtime[4..].copy_from_slice(&time.to_be_bytes());
        }
    }
}

/// The seconds of a header, which may be before 1970.
pub(super) fn time(header: &Header) -> io::Result<i64> {
    header.mtime().map(u64::cast_signed)
}

/// Appends an entry with its name, and the target of a link, as they are, byte by byte: the builder's own
/// way turns `a//b` and `a/./b` into `a/b`, and refuses long names that do not begin with UTF-8.
fn put(
    tar: &mut Builder<&mut dyn Write>,
    mut header: Header,
    name: &Path,
    target: Option<&Path>,
    content: impl Read,
) -> io::Result<()> {
    let name = name.as_os_str().as_bytes();
    if let Some(target) = target {
        let target = target.as_os_str().as_bytes();
        if fill(&mut header.as_old_mut().linkname, target) {
            put_long(tar, EntryType::GNULongLink, target)?;
        }
    }
    if fill(&mut header.as_old_mut().name, name) {
        put_long(tar, EntryType::GNULongName, name)?;
    }
    header.set_cksum();
    tar.append(&header, content)
}

/// Writes as much into a header's field as fits; whether that is not all.
fn fill(field: &mut [u8; 100], bytes: &[u8]) -> bool {
    let fits = bytes.len().min(field.len());
    field.fill(0);
    field[..fits].copy_from_slice(&bytes[..fits]);
    fits < bytes.len()
}

/// What the next entry's field is too short for, as GNU tar writes it.
fn put_long(tar: &mut Builder<&mut dyn Write>, kind: EntryType, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    fill(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64 + 1);
    header.set_cksum();
    tar.append(&header, bytes.chain(&[0][..]))
}

/// A file of which exactly the announced bytes are needed: the archive would be torn otherwise.
struct Exact<'a> {
    file: io::Take<&'a mut File>,
    short: bool,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && self.file.limit() > 0 && !buffer.is_empty() {
            self.short = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

/// Extracts into a new folder, or a part of it with the folders that lead there. Links are made last,
/// so that nothing is ever written through one.
pub(super) fn extract(
    input: &mut dyn Read,
    place: &Path,
    only: Option<&Filter>,
) -> Result<(), Error> {
    let broken = |e| Error::new(ErrorKind::Corrupt, "the archive cannot be read").caused_by(e);
    // Closed to others until everything in it has its mode.
    let closed = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    closed(place).map_err(|e| Error::io("create", place, e))?;
    let mut folders: Vec<(PathBuf, Header)> = Vec::new();
    let mut files: HashSet<PathBuf> = HashSet::new();
    let mut links: Vec<(PathBuf, PathBuf, Header)> = Vec::new();
    let mut passed: HashMap<PathBuf, Header> = HashMap::new();
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let inside = inside(&name)?;
        let path = place.join(&inside);
        let header = entry.header().clone();
        let parent_is_folder =
            || path.parent().is_some_and(|p| p.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
        let is_root = inside.as_os_str().is_empty();
        if let (Some(only), false) = (only, is_root) {
            if !only.chooses(&inside) {
                if header.entry_type() == EntryType::Directory {
                    passed.insert(inside, header);
                }
                continue;
            }
            // The folders around it, the outermost first.
            let around: Vec<_> = inside.ancestors().skip(1).collect();
            for folder in around.into_iter().rev() {
                if let Some(header) = passed.remove(folder) {
                    let path = place.join(folder);
                    closed(&path).map_err(|e| Error::io("create", &path, e))?;
                    folders.push((path, header));
                }
            }
        }
        if !is_root && !parent_is_folder() {
            return Err(hostile(&name, "its folder is not in the archive"));
        }
        let failed = |e| Error::io("create", &path, e);
        match header.entry_type() {
            EntryType::Directory => {
                if !is_root {
                    closed(&path).map_err(failed)?;
                }
                folders.push((path, header));
            }
            EntryType::Regular => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .map_err(failed)?;
                let copied = io::copy(&mut entry, &mut file).map_err(failed)?;
                if copied != entry.size() {
                    return Err(hostile(&name, "its content is cut short"));
                }
                set(&path, &file, &header)?;
                files.insert(inside);
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let target = self::inside(&target)?;
                if !files.contains(&target) && only.is_some() {
                    return Err(half_a_link(&name, &target));
                }
                if !files.contains(&target) {
                    return Err(hostile(&name, "it is a hard link to no file of the archive"));
                }
                fs::hard_link(place.join(&target), &path).map_err(failed)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                links.push((path, target, header));
            }
            other => return Err(hostile(&name, &format!("its type is {other:?}"))),
        }
    }
    for (path, target, header) in links {
        std::os::unix::fs::symlink(target, &path).map_err(|e| Error::io("create", &path, e))?;
        own(&path, &header)?;
        let failed = |e| Error::io("set the time of", &path, e);
        let time = FileTime::from_unix_time(time(&header).map_err(failed)?, 0);
        filetime::set_symlink_file_times(&path, time, time).map_err(failed)?;
    }
    // Innermost first: making something in a folder changes its time, and a mode may forbid it.
    for (path, header) in folders.into_iter().rev() {
        let folder = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        set(&path, &folder, &header)?;
    }
    Ok(())
}

/// What a part of an archive consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// What is in it besides folders, in the archive's order.
    pub names: Vec<PathBuf>,
    /// The sizes of its files together.
    pub bytes: u64,
    /// What the archive has at its top.
    pub top: BTreeSet<PathBuf>,
}

/// Lists a part of an archive.
pub(super) fn contents(input: &mut dyn Read, only: &Filter) -> Result<Contents, Error> {
    let broken = |e| Error::new(ErrorKind::Corrupt, "the archive cannot be read").caused_by(e);
    let (mut contents, mut files) = (Contents::default(), HashSet::new());
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let inside = inside(&name)?;
        contents.top.extend(inside.iter().next().map(PathBuf::from));
        let kind = entry.header().entry_type();
        if inside.as_os_str().is_empty() || !only.chooses(&inside) {
            continue;
        }
        match kind {
            EntryType::Directory => continue,
            EntryType::Link => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let target = self::inside(&target)?;
                if !files.contains(&target) {
                    return Err(half_a_link(&name, &target));
                }
            }
            _ => contents.bytes += entry.size(),
        }
        files.insert(inside.clone());
        contents.names.push(inside);
    }
    Ok(contents)
}

fn half_a_link(name: &Path, target: &Path) -> Error {
    let (name, target) = (name.display(), target.display());
    let message = format!("`{name}` is the same file as `{target}`, which is left out");
    Error::new(ErrorKind::InvalidInput, message).remedy(format!("choose `{target}`, too"))
}

/// The name relative to the archive's root, if it stays below it.
fn inside(name: &Path) -> Result<PathBuf, Error> {
    let mut inside = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            _ => return Err(hostile(name, "it leads out of the archive")),
        }
    }
    Ok(inside)
}

fn hostile(name: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("archive entry `{}` is refused: {why}", name.display()))
        .remedy("the archive was not written by this program; look at it with `tar -t`")
}

fn own(path: &Path, header: &Header) -> Result<(), Error> {
    let failed = |e| Error::io("set the owner of", path, e);
    let meta = path.symlink_metadata().map_err(failed)?;
    let number = |n: io::Result<u64>| n.ok().and_then(|n| u32::try_from(n).ok());
    let (uid, gid) = (number(header.uid()), number(header.gid()));
    if uid == Some(meta.uid()) && gid == Some(meta.gid()) {
        return Ok(());
    }
    match std::os::unix::fs::lchown(path, uid, gid) {
        // Only the administrator gives files away; others get them as their own.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(failed),
    }
}

fn set(path: &Path, file: &File, header: &Header) -> Result<(), Error> {
    own(path, header)?;
    let failed = |e| Error::io("set mode and time of", path, e);
    let mode = header.mode().map_err(failed)?;
    file.set_permissions(Permissions::from_mode(mode & 0o7777)).map_err(failed)?;
    let time = FileTime::from_unix_time(time(header).map_err(failed)?, 0);
    filetime::set_file_handle_times(file, None, Some(time)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_swapped_after_the_look_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "x").unwrap();
        let seen = path.symlink_metadata().unwrap();
        assert!(open_regular(&path, &seen).is_ok());
        let swap = |put: &dyn Fn()| {
            fs::remove_file(&path).unwrap();
            put();
            let error = open_regular(&path, &seen).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        };
        fs::write(dir.path().join("secret"), "s").unwrap();
        swap(&|| std::os::unix::fs::symlink("secret", &path).unwrap());
        swap(&|| fs::hard_link(dir.path().join("secret"), &path).unwrap());
        swap(&|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        });
        fs::remove_file(&path).unwrap();
        assert_eq!(open_regular(&path, &seen).unwrap_err().kind(), ErrorKind::Changed);
    }

    fn entry(kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
        bytes
    }

    #[test]
    fn hostile_archives_are_refused_and_touch_nothing_outside() {
        let file = |name: &[u8]| entry(EntryType::Regular, name, b"", b"x");
        let long = |kind, name: &str| {
            [entry(kind, b"././@LongLink", b"", name.as_bytes()), file(b"a")].concat()
        };
        let link = |name: &[u8], to: &[u8]| entry(EntryType::Symlink, name, to, b"");
        let cases = [
            ("absolute", file(b"/tmp/ops-backup-escaped")),
            ("parent", file(b"../escaped")),
            ("inner parent", file(b"a/../../escaped")),
            ("through a link", [link(b"a", b".."), file(b"a/escaped")].concat()),
            ("hard link out", entry(EntryType::Link, b"a", b"../secret", b"")),
            (
                "hard link to a link",
                [link(b"a", b"../secret"), entry(EntryType::Link, b"b", b"a", b"")].concat(),
            ),
            ("link over a file", [file(b"a"), link(b"a", b"..")].concat()),
            ("twice", [file(b"a"), file(b"a")].concat()),
            ("a device", entry(EntryType::Char, b"a", b"", b"")),
            ("a pipe", entry(EntryType::Fifo, b"a", b"", b"")),
            ("a sparse file", entry(EntryType::GNUSparse, b"a", b"", b"x")),
            ("only parents", file(b"..")),
            ("below a file", [file(b"a"), file(b"a/b")].concat()),
            ("a link twice", [link(b"a", b"secret"), link(b"a", b"..")].concat()),
            ("a hard link to itself", entry(EntryType::Link, b"a", b"a", b"")),
            ("a long absolute name", long(EntryType::GNULongName, "/tmp/ops-backup-escaped")),
            ("a component of 64 KiB", long(EntryType::GNULongName, &"n".repeat(64 << 10))),
            ("a path of 64 KiB", long(EntryType::GNULongName, &"n/".repeat(32 << 10))),
            ("a long way up", long(EntryType::GNULongName, &"../".repeat(50))),
            ("a size beyond all", {
                let mut header = Header::new_gnu();
                header.set_path("a").unwrap();
                header.set_size(u64::MAX);
                header.set_cksum();
                header.as_bytes().to_vec()
            }),
            ("a wrong checksum", {
                let mut bytes = file(b"a");
                bytes[0] = b'b';
                bytes
            }),
        ];
        for (what, mut bytes) in cases {
            bytes.extend_from_slice(&[0; 1024]);
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("secret"), "s").unwrap();
            assert!(extract(&mut &*bytes, &dir.path().join("new"), None).is_err(), "{what}");
            let mut left: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["new", "secret"], "{what}");
        }
        assert!(!Path::new("/tmp/ops-backup-escaped").exists());
        for cut in [100, 512, 600] {
            let dir = tempfile::tempdir().unwrap();
            let bytes = entry(EntryType::Regular, b"a", b"", &[7; 400]);
            let cut = extract(&mut &bytes[..cut], &dir.path().join("new"), None);
            assert_eq!(cut.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
