//! Whether a tree on disk is what its archive says.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;
use walkdir::WalkDir;

use crate::error::{Error, ErrorKind};

/// More differences than these say nothing new.
const MAX: usize = 20;

/// What differs between the archive and the tree: kinds, contents, link targets, modes, times,
/// what is missing and what is too much. Owners are not compared: only root restores them.
pub(super) fn compare(input: &mut dyn Read, place: &Path) -> Result<Vec<String>, Error> {
    let broken = |e| Error::new(ErrorKind::Corrupt, "the archive cannot be read").caused_by(e);
    let mut problems = Vec::new();
    let mut known: HashSet<PathBuf> = HashSet::new();
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name: PathBuf = entry.path().map_err(broken)?.components().filter(normal).collect();
        let path = place.join(&name);
        let path = if name.as_os_str().is_empty() { place.to_owned() } else { path };
        known.insert(path.clone());
        let failed = |e| Error::io("compare", &path, e);
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                problems.push(format!("`{}` is missing", name.display()));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let header = entry.header().clone();
        let link = || -> Result<Option<OsString>, Error> {
            Ok(entry.link_name().map_err(broken)?.map(|link| link.into_owned().into_os_string()))
        };
        let content = match header.entry_type() {
            EntryType::Directory => meta.is_dir(),
            EntryType::Symlink => {
                meta.is_symlink()
                    && Some(fs::read_link(&path).map_err(failed)?.into_os_string()) == link()?
            }
            EntryType::Link => {
                let first = place.join(link()?.unwrap_or_default());
                first.symlink_metadata().is_ok_and(|first| first.ino() == meta.ino())
            }
            _ => {
                meta.is_file()
                    && same(&mut entry, &mut File::open(&path).map_err(failed)?).map_err(failed)?
            }
        };
        if !content {
            problems.push(format!("`{}` differs", name.display()));
        }
        let mode = header.mode().map_err(broken)? & 0o7777;
        if !meta.is_symlink() && meta.permissions().mode() & 0o7777 != mode {
            problems.push(format!("`{}` has another mode than {mode:o}", name.display()));
        }
        if meta.mtime() != super::archive::time(&header).map_err(broken)? {
            problems.push(format!("`{}` has another time", name.display()));
        }
        if problems.len() >= MAX {
            return Ok(problems);
        }
    }
    for entry in WalkDir::new(place) {
        let failed = |e| Error::new(ErrorKind::Io, "cannot walk what was restored").caused_by(e);
        let entry = entry.map_err(failed)?;
        if !known.contains(entry.path()) && problems.len() < MAX {
            problems.push(format!("`{}` is not in the backup", entry.path().display()));
        }
    }
    Ok(problems)
}

fn normal(component: &Component<'_>) -> bool {
    matches!(component, Component::Normal(_))
}

/// Whether both give the same bytes to their ends.
pub(super) fn same(a: &mut dyn Read, b: &mut dyn Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = fill(a, &mut left)?;
        if read != fill(b, &mut right)? || left[..read] != right[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match from.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}
