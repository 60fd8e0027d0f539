//! Three trees side by side: what of them is not the same in all.

use std::collections::{BTreeMap, BTreeSet};

use gix::bstr::BString;
use gix::objs::tree::{EntryKind, EntryMode};

use crate::error::{Error, GitResult as _};

/// What a tree has at a path: a file, a symbolic link, or a submodule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: EntryKind,
    pub id: gix::ObjectId,
}

impl Entry {
    pub fn is_file(self) -> bool {
        matches!(self.kind, EntryKind::Blob | EntryKind::BlobExecutable)
    }

    /// Whether both are files, both links, or both submodules.
    pub fn same_type(self, other: Self) -> bool {
        self.is_file() == other.is_file() && (self.is_file() || self.kind == other.kind)
    }

    pub fn mode(self) -> u16 {
        EntryMode::from(self.kind).value()
    }
}

/// The base, ours and theirs of one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Triple {
    pub base: Option<Entry>,
    pub ours: Option<Entry>,
    pub theirs: Option<Entry>,
}

/// One of the two histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Theirs,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }
}

impl Triple {
    pub fn of(&self, side: Side) -> Option<Entry> {
        match side {
            Side::Ours => self.ours,
            Side::Theirs => self.theirs,
        }
    }

    pub fn set(&mut self, side: Side, entry: Option<Entry>) {
        match side {
            Side::Ours => self.ours = entry,
            Side::Theirs => self.theirs = entry,
        }
    }
}

/// Every path that is not the same in all three trees, and the directories that are gone.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub paths: BTreeMap<BString, Triple>,
    /// Directories of the base that ours has no more, and that theirs has no more.
    gone: [BTreeSet<BString>; 2],
}

impl Differences {
    pub fn gone(&self, side: Side) -> &BTreeSet<BString> {
        match side {
            Side::Ours => &self.gone[0],
            Side::Theirs => &self.gone[1],
        }
    }

    /// Reads three trees as far as they differ.
    pub fn between(
        repo: &gix::Repository,
        base: gix::ObjectId,
        ours: gix::ObjectId,
        theirs: gix::ObjectId,
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut left = vec![(BString::default(), [Some(base), Some(ours), Some(theirs)])];
        while let Some((prefix, trees)) = left.pop() {
            if trees[0] == trees[1] && trees[0] == trees[2] {
                continue;
            }
            found.level(repo, &prefix, trees, &mut left)?;
        }
        Ok(found)
    }

    fn level(
        &mut self,
        repo: &gix::Repository,
        prefix: &BString,
        trees: [Option<gix::ObjectId>; 3],
        left: &mut Vec<(BString, [Option<gix::ObjectId>; 3])>,
    ) -> Result<(), Error> {
        let mut files: BTreeMap<BString, Triple> = BTreeMap::new();
        let mut folders: BTreeMap<BString, [Option<gix::ObjectId>; 3]> = BTreeMap::new();
        for (which, id) in trees.into_iter().enumerate() {
            let Some(id) = id else { continue };
            let doing = || format!("tree {id} cannot be read");
            let tree = repo.find_tree(id).doing(doing)?;
            for entry in tree.iter() {
                let entry = entry.doing(doing)?;
                let mut path = prefix.clone();
                path.extend_from_slice(entry.filename());
                if entry.mode().is_tree() {
                    folders.entry(path).or_default()[which] = Some(entry.oid().to_owned());
                } else {
                    let value =
                        Some(Entry { kind: entry.mode().kind(), id: entry.oid().to_owned() });
                    let triple = files.entry(path).or_default();
                    match which {
                        0 => triple.base = value,
                        1 => triple.ours = value,
                        _ => triple.theirs = value,
                    }
                }
            }
        }
        for (path, trees) in folders {
            if trees[0].is_some() {
                for side in [0, 1] {
                    if trees[side + 1].is_none() {
                        self.gone[side].insert(path.clone());
                    }
                }
            }
            let mut below = path;
            below.push(b'/');
            left.push((below, trees));
        }
        self.paths
            .extend(files.into_iter().filter(|(_, t)| t.base != t.ours || t.base != t.theirs));
        Ok(())
    }
}
