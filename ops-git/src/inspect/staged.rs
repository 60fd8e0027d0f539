//! What the index has that its commit has not.

use std::collections::BTreeSet;

use gix::bstr::{BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Mode, Stage};
use gix::objs::tree::EntryKind;

use crate::error::{Error, ErrorKind, GitResult as _};

/// How deep folders may lie in each other.
const DEEPEST: usize = 512;

/// Every path where the index differs from a tree: staged, taken out, or in conflict.
pub(super) fn staged(
    repo: &gix::Repository,
    tree: Option<gix::ObjectId>,
    index: &State,
) -> Result<BTreeSet<BString>, Error> {
    let mut walk = Walk { repo, index, at: 0, path: BString::default(), found: BTreeSet::new() };
    if let Some(tree) = tree {
        walk.tree(tree, 0)?;
    }
    while walk.next().is_some() {
        walk.surplus();
    }
    Ok(walk.found)
}

/// Both are sorted by path, and are read side by side.
struct Walk<'a> {
    repo: &'a gix::Repository,
    index: &'a State,
    /// The entry of the index that is next.
    at: usize,
    /// Of the tree.
    path: BString,
    found: BTreeSet<BString>,
}

impl<'a> Walk<'a> {
    fn next(&self) -> Option<&'a gix::index::Entry> {
        self.index.entries().get(self.at)
    }

    fn surplus(&mut self) {
        if let Some(entry) = self.next() {
            self.found.insert(entry.path(self.index).to_owned());
            self.at += 1;
        }
    }

    fn tree(&mut self, id: gix::ObjectId, depth: usize) -> Result<(), Error> {
        let doing = || format!("tree {id} cannot be read");
        if depth > DEEPEST {
            let what = format!("folder `{}` lies too deep", self.path);
            return Err(Error::new(ErrorKind::Hostile, what));
        }
        let tree = self.repo.find_tree(id).doing(doing)?;
        let length = self.path.len();
        for entry in tree.iter() {
            let entry = entry.doing(doing)?;
            self.path.extend_from_slice(entry.filename());
            match entry.mode().kind() {
                EntryKind::Tree => {
                    self.path.push(b'/');
                    if !self.is_sparse_folder(entry.oid()) {
                        self.tree(entry.oid().to_owned(), depth + 1)?;
                    }
                }
                kind => self.file(kind, entry.oid()),
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    /// Whether the index has a whole folder in place of its files, and the same.
    fn is_sparse_folder(&mut self, id: &gix::oid) -> bool {
        self.skip_to_path();
        let same = self.next().is_some_and(|next| {
            next.mode == Mode::DIR && next.path(self.index) == self.path && next.id == id
        });
        self.at += usize::from(same);
        same
    }

    /// Whatever of the index comes before the path of the tree is in the index only.
    fn skip_to_path(&mut self) {
        while self.next().is_some_and(|next| next.path(self.index) < self.path.as_bstr()) {
            self.surplus();
        }
    }

    fn file(&mut self, kind: EntryKind, id: &gix::oid) {
        self.skip_to_path();
        let mut same = false;
        while let Some(next) = self.next().filter(|next| next.path(self.index) == self.path) {
            let mode = next.mode.to_tree_entry_mode().map(|mode| mode.kind());
            same = next.stage() == Stage::Unconflicted && mode == Some(kind) && next.id == id;
            self.at += 1;
        }
        if !same {
            self.found.insert(self.path.clone());
        }
    }
}
