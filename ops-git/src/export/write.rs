//! Writing a listed tree to a disk, and comparing one with a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gix::bstr::{BStr, BString};
use gix::objs::tree::EntryKind;
use gix::worktree::stack::state::attributes::Source;
use ops_core::progress::Update;
use ops_core::{Progress, StepContext};

use super::ident;
use super::list::{Entry, Listing};
use super::utf16::Utf16;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::filter::Filters;
use crate::path_bytes::on_disk;
use crate::worktree::blob_id;

/// Attributes that gix leaves to us, or does not obey as git does.
#[derive(Debug, Default)]
struct Obeyed {
    ignored: bool,
    ident: bool,
    filter: Option<String>,
    utf16: Option<Utf16>,
}

/// What decides which paths are written and what they become: attributes and filters of the tree
/// itself, never of a work tree that happens to be around.
pub(crate) struct Rules<'repo> {
    repo: &'repo gix::Repository,
    filters: Filters<'repo>,
    attributes: gix::AttributeStack<'repo>,
    outcome: gix::attrs::search::Outcome,
}

impl<'repo> Rules<'repo> {
    fn new(repo: &'repo gix::Repository, tree: gix::ObjectId) -> Result<Self, Error> {
        let doing = || format!("the attributes of tree {tree} cannot be read");
        let index = repo.index_from_tree(&tree).doing(doing)?;
        Self::with_index(repo, &index, Source::IdMapping)
    }

    /// The rules that the attribute files of an index make.
    pub(crate) fn with_index(
        repo: &'repo gix::Repository,
        index: &gix::index::State,
        source: Source,
    ) -> Result<Self, Error> {
        let doing = || "the attributes of the index cannot be read".to_owned();
        let stack = || repo.attributes_only(index, source).doing(doing);
        let filters = Filters::new(repo, stack()?.detach())?;
        let attributes = stack()?;
        let outcome = attributes.selected_attribute_matches([
            "export-ignore",
            "filter",
            "ident",
            "working-tree-encoding",
        ]);
        Ok(Self { repo, filters, attributes, outcome })
    }

    /// What the attributes that we obey ourselves say of a path.
    fn of(&mut self, path: &BStr, is_folder: bool) -> Result<Obeyed, Error> {
        use gix::attrs::StateRef;
        let mode =
            if is_folder { gix::index::entry::Mode::DIR } else { gix::index::entry::Mode::FILE };
        self.outcome.reset();
        let platform = self
            .attributes
            .at_entry(path, Some(mode))
            .doing(|| format!("the attributes of `{path}` cannot be read"))?;
        platform.matching_attributes(&mut self.outcome);
        let mut obeyed = Obeyed::default();
        for found in self.outcome.iter_selected() {
            match (found.assignment.name.as_str(), found.assignment.state) {
                ("export-ignore", StateRef::Set) => obeyed.ignored = true,
                ("ident", StateRef::Set) => obeyed.ident = true,
                ("filter", StateRef::Value(name)) => {
                    obeyed.filter = Some(name.as_bstr().to_string());
                }
                ("working-tree-encoding", StateRef::Value(name)) => {
                    obeyed.utf16 = Utf16::of(name.as_bstr());
                }
                _ => {}
            }
        }
        Ok(obeyed)
    }

    /// The filter that the attributes give to a path.
    pub(crate) fn filter(&mut self, path: &BStr) -> Result<Option<String>, Error> {
        Ok(self.of(path, false)?.filter)
    }

    /// Whether a path is in an encoding that we write ourselves.
    pub(crate) fn is_utf16(&mut self, path: &BStr) -> Result<bool, Error> {
        Ok(self.of(path, false)?.utf16.is_some())
    }

    /// Hands the content of a file, filtered, to `take`.
    pub(crate) fn content<T>(
        &mut self,
        entry: &Entry,
        take: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let blob = self
            .repo
            .find_blob(entry.id)
            .doing(|| format!("the content of `{}` cannot be read", entry.path))?;
        if blob_id(self.repo, &blob.data)? != entry.id {
            let what = format!("the content of `{}` is not what its id says", entry.path);
            return Err(Error::new(ErrorKind::Git, what)
                .with("object", entry.id)
                .remedy("the object is damaged: restore it from another clone"));
        }
        self.filtered(entry, &blob.data, take)
    }

    /// Hands the content of a file, which was read already, filtered to `take`.
    pub(crate) fn filtered<T>(
        &mut self,
        entry: &Entry,
        blob: &[u8],
        take: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let obeyed = self.of(entry.path.as_ref(), false)?;
        if obeyed.filter.is_some() && obeyed.utf16.is_some() {
            return Err(Error::new(
                ErrorKind::Hostile,
                format!("`{}` has both a filter and an encoding of UTF-16", entry.path),
            )
            .remedy("take one of the two attributes away"));
        }
        let expanded = if obeyed.ident { ident::expand(blob, &entry.id) } else { None };
        let stored = expanded.as_deref().unwrap_or(blob);
        let filter = obeyed.filter.as_deref();
        let written = self.filters.written(stored, entry.path.as_ref(), filter)?;
        if let Some(encoding) = obeyed.utf16 {
            let text = std::str::from_utf8(&written).map_err(|source| {
                Error::new(
                    ErrorKind::Git,
                    format!("`{}` is no UTF-8 in the repository", entry.path),
                )
                .remedy("take its `working-tree-encoding` away, or repair it")
                .caused_by(source)
            })?;
            return take(&mut encoding.encode(text).as_slice());
        }
        take(&mut written.as_ref())
    }

    /// What the repository would store of a file with these bytes.
    pub(crate) fn stored(
        &mut self,
        bytes: &[u8],
        path: &BStr,
        index: &gix::index::State,
    ) -> Result<Vec<u8>, Error> {
        let filter = self.filter(path)?;
        self.filters.stored(bytes, path, filter.as_deref(), index)
    }
}

/// What is left of a listing once `export-ignore` has been obeyed.
fn kept(rules: &mut Rules<'_>, listing: &Listing) -> Result<(Vec<BString>, Vec<Entry>), Error> {
    let mut ignored: Vec<BString> = Vec::new();
    let below = |path: &BString, ignored: &[BString]| {
        ignored.iter().any(|folder| {
            path.strip_prefix(folder.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        })
    };
    let mut folders = Vec::new();
    for folder in &listing.folders {
        if below(folder, &ignored) {
            continue;
        }
        if rules.of(folder.as_ref(), true)?.ignored {
            ignored.push(folder.clone());
        } else {
            folders.push(folder.clone());
        }
    }
    let mut entries = Vec::new();
    for entry in &listing.entries {
        if !below(&entry.path, &ignored) && !rules.of(entry.path.as_ref(), false)?.ignored {
            entries.push(entry.clone());
        }
    }
    Ok((folders, entries))
}

fn at(root: &Path, path: &BString) -> PathBuf {
    root.join(on_disk(path))
}

/// Writes everything below `root`, an empty folder. Needs the memory of the largest file, twice if
/// a filter changes it. Nothing is made durable here.
pub(super) fn write(
    repo: &gix::Repository,
    listing: &Listing,
    root: &Path,
    cx: &StepContext,
) -> Result<(), Error> {
    let mut rules = Rules::new(repo, listing.tree)?;
    let (folders, entries) = kept(&mut rules, listing)?;
    for folder in &folders {
        let path = at(root, folder);
        fs::create_dir(&path).map_err(|source| Error::io("create", &path, source))?;
    }
    let total = entries.len() as u64;
    let progress: &dyn Progress = &**cx.context().progress();
    for (done, entry) in entries.iter().enumerate() {
        if cx.cancellation().is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the export was asked to end"));
        }
        let path = at(root, &entry.path);
        if entry.kind == EntryKind::Link {
            let doing = || format!("symbolic link `{}` cannot be read", entry.path);
            let target = repo.find_blob(entry.id).doing(doing)?.take_data();
            std::os::unix::fs::symlink(on_disk(&target), &path)
                .map_err(|source| Error::io("create", &path, source))?;
        } else {
            let mode = if entry.kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
            rules.content(entry, |content| {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&path)
                    .map_err(|source| Error::io("create", &path, source))?;
                std::io::copy(content, &mut file)
                    .and_then(|_| file.flush())
                    .map_err(|source| Error::io("write", &path, source))
            })?;
        }
        if done == entries.len() / 2 {
            cx.fault_point("git-export-half-written");
        }
        progress.update(&Update::items("exporting files", done as u64 + 1, Some(total)));
    }
    Ok(())
}

/// The first thing in a folder that is not as an export would have it; `None` if all is.
pub(super) fn first_difference(
    repo: &gix::Repository,
    listing: &Listing,
    root: &Path,
) -> Result<Option<String>, Error> {
    let mut rules = Rules::new(repo, listing.tree)?;
    let (folders, entries) = kept(&mut rules, listing)?;
    let mut expected = std::collections::BTreeSet::new();
    for folder in &folders {
        let path = at(root, folder);
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Ok(Some(format!("`{folder}` is no folder there")));
        }
        expected.insert(path);
    }
    for entry in &entries {
        let path = at(root, &entry.path);
        if !same(repo, &mut rules, entry, &path)? {
            return Ok(Some(format!("`{}` differs", entry.path)));
        }
        expected.insert(path);
    }
    surplus(root, &expected)
}

fn same(
    repo: &gix::Repository,
    rules: &mut Rules<'_>,
    entry: &Entry,
    path: &Path,
) -> Result<bool, Error> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(false) };
    if entry.kind == EntryKind::Link {
        let doing = || format!("symbolic link `{}` cannot be read", entry.path);
        let target = repo.find_blob(entry.id).doing(doing)?.take_data();
        return Ok(
            meta.is_symlink() && path.read_link().is_ok_and(|there| there == on_disk(&target))
        );
    }
    let executable = meta.permissions().mode() & 0o100 != 0;
    if !meta.is_file()
        || meta.nlink() != 1
        || executable != (entry.kind == EntryKind::BlobExecutable)
    {
        return Ok(false);
    }
    rules.content(entry, |content| {
        let io = |source| Error::io("read", path, source);
        let mut there = BufReader::new(File::open(path).map_err(io)?);
        let mut content = BufReader::new(content);
        let (mut a, mut b) = ([0; 8192], [0; 8192]);
        loop {
            let (read_a, read_b) =
                (fill(&mut there, &mut a).map_err(io)?, fill(&mut content, &mut b).map_err(io)?);
            if a[..read_a] != b[..read_b] {
                return Ok(false);
            }
            if read_a == 0 {
                return Ok(true);
            }
        }
    })
}

/// Reads until the buffer is full or all is read.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn surplus(
    root: &Path,
    expected: &std::collections::BTreeSet<PathBuf>,
) -> Result<Option<String>, Error> {
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        let entries = folder.read_dir().map_err(|source| Error::io("read", &folder, source))?;
        for entry in entries {
            let path = entry.map_err(|source| Error::io("read", &folder, source))?.path();
            if !expected.contains(&path) {
                return Ok(Some(format!("`{}` is not part of it", path.display())));
            }
            if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                left.push(path);
            }
        }
    }
    Ok(None)
}
