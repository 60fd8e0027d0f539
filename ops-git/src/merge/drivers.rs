//! Which way of merging the attributes of a path ask for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gix::attrs::search::{MetadataCollection, Outcome};
use gix::attrs::{Search, StateRef};
use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::glob::pattern::Case;

use super::external::Program;
use crate::error::{Error, GitResult as _};
use crate::path_bytes::on_disk;
use crate::presence;

/// A way to merge a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Driver {
    /// Line by line, unless it is no text.
    Text,
    /// Line by line, keeping what both have where they exclude each other.
    Union,
    /// Never: a change on both sides is a conflict.
    Binary,
    /// A program that the repository configures, and that was allowed.
    Program(Program),
    /// A program that the repository configures, and that was not allowed.
    NotAllowed(String),
}

/// The attributes of a tree: its `.gitattributes` files and the repository's own `info/attributes`.
///
/// They are those of our side, as they are for git when our side is checked out.
#[derive(Debug)]
pub(super) struct Drivers {
    tree: gix::ObjectId,
    /// The names of programs that may run.
    allowed: Vec<String>,
    /// The `.gitattributes` of each folder that was looked into.
    files: HashMap<BString, Option<Vec<u8>>>,
}

/// Stands for the root of the tree, for patterns are matched below a folder.
const ROOT: &str = "/tree";

impl Drivers {
    pub fn of(tree: gix::ObjectId, allowed: &[String]) -> Self {
        Self { tree, allowed: allowed.to_vec(), files: HashMap::new() }
    }

    pub fn driver(&mut self, repo: &gix::Repository, path: &BStr) -> Result<Driver, Error> {
        let doing = |e: std::io::Error| Error::io("read the attributes of", on_disk(path), e);
        let mut names = MetadataCollection::default();
        let mut buffer = Vec::new();
        let mut search =
            Search::new_globals(std::iter::empty::<PathBuf>(), &mut buffer, &mut names)
                .map_err(doing)?;
        let mut folders = vec![BString::default()];
        folders.extend(path.find_iter(b"/").map(|at| BString::from(&path[..at])));
        for folder in folders {
            let Some(content) = self.file(repo, folder.as_bstr())? else { continue };
            let source = Path::new(ROOT).join(on_disk(&folder)).join(".gitattributes");
            let in_root = folder.is_empty();
            search
                .add_patterns_buffer(&content, source, Some(Path::new(ROOT)), &mut names, in_root)
                .map_err(doing)?;
        }
        let info = repo.common_dir().join("info").join("attributes");
        if let Some(content) = presence::read(&info)? {
            search.add_patterns_buffer(&content, info, None, &mut names, true).map_err(doing)?;
        }
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&names, ["merge"]);
        search.pattern_matching_relative_path(path, Case::Sensitive, Some(false), &mut outcome);
        let found = outcome.iter_selected().next();
        let config = repo.config_snapshot();
        let name = match found.map(|found| found.assignment.state) {
            Some(StateRef::Set) => return Ok(Driver::Text),
            Some(StateRef::Unset) => return Ok(Driver::Binary),
            Some(StateRef::Value(value)) => value.as_bstr().to_owned(),
            Some(StateRef::Unspecified) | None => match config.string("merge.default") {
                Some(name) => name,
                None => return Ok(Driver::Text),
            },
        };
        let key = format!("merge.{}.driver", name.to_str_lossy());
        if let Some(line) = config.string(key.as_str()) {
            let name = name.to_string();
            return Ok(if self.allowed.contains(&name) {
                Driver::Program(Program { name, line })
            } else {
                Driver::NotAllowed(name)
            });
        }
        Ok(match name.as_bytes() {
            b"binary" => Driver::Binary,
            b"union" => Driver::Union,
            _ => Driver::Text,
        })
    }

    fn file(&mut self, repo: &gix::Repository, folder: &BStr) -> Result<Option<Vec<u8>>, Error> {
        if let Some(known) = self.files.get(folder) {
            return Ok(known.clone());
        }
        let doing = || format!("`.gitattributes` of tree {} cannot be read", self.tree);
        let mut path = folder.to_owned();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(b".gitattributes");
        let tree = repo.find_tree(self.tree).doing(doing)?;
        let entry = tree.lookup_entry_by_path(on_disk(&path)).doing(doing)?;
        // Through a link it is not read, as with git.
        let content = match entry {
            Some(entry) if entry.mode().is_blob() => {
                Some(entry.object().doing(doing)?.detach().data)
            }
            _ => None,
        };
        self.files.insert(folder.to_owned(), content.clone());
        Ok(content)
    }
}
