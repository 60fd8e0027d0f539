//! What the index has that its commit has not.

use std::collections::BTreeSet;

use gix::bstr::{BString, ByteSlice as _};
use gix::index::State;
use gix::index::entry::{Flags, Mode, Stage};
use gix::index::extension::Tree;
use gix::objs::tree::EntryKind;

use super::tree_diff::DEEPEST;
use crate::error::{Error, ErrorKind, GitResult as _};

/// Every path where the index differs from a tree: staged, taken out, or in conflict. Folders of
/// which the index notes that they are the tree's are not compared, as git has it.
pub(crate) fn staged(
    repo: &gix::Repository,
    tree: Option<gix::ObjectId>,
    index: &State,
) -> Result<BTreeSet<BString>, Error> {
    let mut walk = Walk { repo, index, at: 0, path: BString::default(), found: BTreeSet::new() };
    if let Some(tree) = tree {
        walk.tree(tree, index.tree(), 0)?;
    }
    while walk.next().is_some() {
        walk.surplus();
    }
    Ok(walk.found)
}

/// Those of them that are staged indeed: what is only intended to be added is not yet.
pub(super) fn decided(paths: BTreeSet<BString>, index: &State) -> BTreeSet<BString> {
    let intended = |path: &BString| {
        let entry = index.entry_by_path_and_stage(path.as_bstr(), Stage::Unconflicted);
        entry.is_some_and(|entry| entry.flags.contains(Flags::INTENT_TO_ADD))
    };
    paths.into_iter().filter(|path| !intended(path)).collect()
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

    fn tree<'n>(
        &mut self,
        id: gix::ObjectId,
        note: Option<&'n Tree>,
        depth: usize,
    ) -> Result<(), Error> {
        if let Some(entries) = note.and_then(|note| self.same_by_note(id, note)) {
            self.at += entries;
            return Ok(());
        }
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
                        let name = entry.filename();
                        let child = |note: &'n Tree| {
                            note.children.iter().find(|child| child.name.as_bstr() == name)
                        };
                        self.tree(entry.oid().to_owned(), note.and_then(child), depth + 1)?;
                    }
                }
                kind => self.file(kind, entry.oid()),
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    /// How many entries the folder at the path has, if the index notes that they are a tree's.
    fn same_by_note(&self, id: gix::ObjectId, note: &Tree) -> Option<usize> {
        let count = note.num_entries.filter(|count| *count > 0 && note.id == id)? as usize;
        let below = |at: usize| {
            let entry = self.index.entries().get(at);
            entry.is_some_and(|entry| entry.path(self.index).starts_with(&self.path))
        };
        // A note that does not fit is worth nothing.
        let end = self.at + count;
        (below(self.at) && below(end - 1) && !below(end)).then_some(count)
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
