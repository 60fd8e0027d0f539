//! The work tree as it is: `lstat`, filters and ignore rules.

use gix::bstr::{BStr, BString};
use gix::index::State;
use gix::index::entry::Mode;
use gix::worktree::stack::state::{attributes, ignore};

use super::browse::Browser;
use super::planner::View;
use super::root::{Root, Seen, Shape};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::export::{Entry, Rules};
use crate::path_bytes::on_disk;

/// The work tree of a repository, seen through an index.
pub(super) struct Look<'repo> {
    repo: &'repo gix::Repository,
    root: &'repo Root,
    index: &'repo State,
    browser: Browser<'repo>,
    /// Made when content has to be compared: most often the stat tells.
    rules: Option<Rules<'repo>>,
    excludes: Option<gix::AttributeStack<'repo>>,
    stat: gix::index::entry::stat::Options,
    files: gix::fs::Capabilities,
    /// Of the repository, into which things are moved.
    device: (u32, u32),
}

impl<'repo> Look<'repo> {
    pub fn new(
        repo: &'repo gix::Repository,
        root: &'repo Root,
        index: &'repo State,
    ) -> Result<Self, Error> {
        let doing = || "the configuration cannot be read".to_owned();
        let git_dir = Root::open(repo.git_dir())?;
        Ok(Self {
            repo,
            root,
            index,
            browser: Browser::new(root),
            rules: None,
            excludes: None,
            stat: repo.stat_options().doing(doing)?,
            files: repo.filesystem_options().doing(doing)?,
            device: git_dir.look(".".into())?.map(|seen| seen.device).unwrap_or_default(),
        })
    }

    /// Whether git would find, without reading it, that what was seen is what the index has; `None`
    /// if only its content can tell.
    fn fresh(&self, seen: &Seen, entry: &gix::index::Entry) -> Option<bool> {
        let (is_file, executable) = match seen.shape {
            Shape::File { executable } => (true, executable),
            Shape::Link => (false, false),
            Shape::Folder | Shape::Other => return Some(false),
        };
        let change = entry.mode.change_to_match_fs_with_values(
            is_file,
            false,
            !is_file,
            executable,
            self.files.symlink,
            self.files.executable_bit,
        );
        if change.is_some() {
            return Some(false);
        }
        let same = seen.stat().matches(&entry.stat, self.stat);
        (same && !self.is_racy(entry)).then_some(true)
    }

    /// Whether the stat of a path is the one that the index holds, racy or not.
    pub fn same_stat(&mut self, path: &BStr, entry: &gix::index::Entry) -> bool {
        let seen = self.browser.look(path).ok().flatten();
        seen.is_some_and(|seen| seen.stat().matches(&entry.stat, self.stat))
    }

    pub fn is_racy(&self, entry: &gix::index::Entry) -> bool {
        entry.stat.is_racy(self.index.timestamp(), self.stat)
    }

    /// Whether bytes that lay at a path are what the index has there.
    pub fn same_content(
        &mut self,
        path: &BStr,
        shape: Shape,
        bytes: &[u8],
        entry: &gix::index::Entry,
    ) -> Result<bool, Error> {
        if shape == Shape::Link || entry.mode == Mode::SYMLINK {
            return Ok(blob_id(self.repo, bytes)? == entry.id);
        }
        let rules = match &mut self.rules {
            Some(rules) => rules,
            none => {
                let from = attributes::Source::WorktreeThenIdMapping;
                none.insert(Rules::with_index(self.repo, self.index, from)?)
            }
        };
        let stored = rules.stored(bytes, path, self.index)?;
        if blob_id(self.repo, &stored)? == entry.id {
            return Ok(true);
        }
        // gix reads and writes UTF-16 in another way than git, so ask what would be written.
        if !rules.is_utf16(path)? {
            return Ok(false);
        }
        let kind = gix::objs::tree::EntryKind::Blob;
        let wanted = Entry { path: path.to_owned(), id: entry.id, kind };
        let io = |source| Error::io("filter", on_disk(path), source);
        rules.content(&wanted, |content| {
            let mut expected = Vec::new();
            content.read_to_end(&mut expected).map_err(io)?;
            Ok(expected == bytes)
        })
    }
}

/// The id of a blob with these bytes.
pub(crate) fn blob_id(repo: &gix::Repository, bytes: &[u8]) -> Result<gix::ObjectId, Error> {
    gix::objs::compute_hash(repo.object_hash(), gix::objs::Kind::Blob, bytes).map_err(|source| {
        Error::new(ErrorKind::Git, "the content has no id: it is an attack on SHA-1")
            .caused_by(source)
    })
}

fn chain(error: &Error) -> String {
    ops_core::error::chain(error).join(": ")
}

impl View for Look<'_> {
    fn look(&mut self, path: &BStr) -> Result<Option<Seen>, Error> {
        self.browser.look(path)
    }

    fn list(&mut self, folder: &BStr) -> Result<Vec<BString>, Error> {
        self.root.list(folder)
    }

    fn unchanged(&mut self, path: &BStr, entry: &gix::index::Entry) -> Result<bool, String> {
        let seen = self.browser.again(path).map_err(|error| chain(&error))?;
        let Some(seen) = seen else { return Ok(false) };
        if let Some(answer) = self.fresh(&seen, entry) {
            return Ok(answer);
        }
        self.root
            .read(path, seen.shape)
            .and_then(|bytes| self.same_content(path, seen.shape, &bytes, entry))
            .map_err(|error| chain(&error))
    }

    fn ignored(&mut self, path: &BStr, is_folder: bool) -> Result<bool, String> {
        let mode = if is_folder { Mode::DIR } else { Mode::FILE };
        let excludes = match &mut self.excludes {
            Some(excludes) => excludes,
            none => {
                let made = self.repo.excludes(self.index, None, ignore::Source::default());
                let doing = || "the ignore rules cannot be read".to_owned();
                none.insert(made.doing(doing).map_err(|error| chain(&error))?)
            }
        };
        excludes
            .at_entry(path, Some(mode))
            .map(|platform| platform.is_excluded())
            .map_err(|error| ops_core::error::chain(&error).join(": "))
    }

    fn movable(&mut self, seen: &Seen) -> bool {
        seen.device == self.device
    }
}
