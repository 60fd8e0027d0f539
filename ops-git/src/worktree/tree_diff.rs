//! Where two trees differ, whatever their names.

use std::collections::BTreeMap;

use gix::bstr::{BStr, BString};

use super::two_way::{Cell, Kind};
use crate::error::{Error, ErrorKind, GitResult as _};

/// How deep folders may lie in each other.
const DEEPEST: usize = 512;

/// What two trees have at a path where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub old: Option<Cell>,
    pub new: Option<Cell>,
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

/// Every path where the trees differ, sorted; with `all`, every path of either. Folders that both
/// have alike are not read. Needs memory for the paths found.
pub(super) fn between(
    repo: &gix::Repository,
    old: Option<gix::ObjectId>,
    new: Option<gix::ObjectId>,
    all: bool,
) -> Result<BTreeMap<BString, Change>, Error> {
    let mut found = BTreeMap::new();
    walk(repo, (old, new), &BString::default(), 0, all, &mut found)?;
    if !all {
        found.retain(|_, change: &mut Change| change.old != change.new);
    }
    Ok(found)
}

fn walk(
    repo: &gix::Repository,
    (old, new): (Option<gix::ObjectId>, Option<gix::ObjectId>),
    prefix: &BString,
    depth: usize,
    all: bool,
    found: &mut BTreeMap<BString, Change>,
) -> Result<(), Error> {
    if old == new && !all {
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(Error::new(ErrorKind::Hostile, format!("folder `{prefix}` lies too deep")));
    }
    let mut folders: BTreeMap<BString, (Option<gix::ObjectId>, Option<gix::ObjectId>)> =
        BTreeMap::new();
    for (side, id) in [(Side::Old, old), (Side::New, new)] {
        let Some(id) = id else { continue };
        let doing = || format!("tree {id} cannot be read");
        let tree = repo.find_tree(id).doing(doing)?;
        for entry in tree.iter() {
            let entry = entry.doing(doing)?;
            // A name that only looks like a path would slip through every check of paths.
            if entry.filename().contains(&b'/') || entry.filename().is_empty() {
                let name = entry.filename();
                let what = format!("tree {id} holds the name `{name}`, which no file may have");
                return Err(Error::new(ErrorKind::Hostile, what)
                    .remedy("take it out of the tree, and check out that commit"));
            }
            let path = joined(prefix, entry.filename());
            let id = entry.oid().to_owned();
            if let Some(kind) = Kind::of_tree(entry.mode()) {
                let change = found.entry(path).or_default();
                let slot = match side {
                    Side::Old => &mut change.old,
                    Side::New => &mut change.new,
                };
                *slot = Some(Cell { kind, id });
            } else {
                let both = folders.entry(path).or_default();
                match side {
                    Side::Old => both.0 = Some(id),
                    Side::New => both.1 = Some(id),
                }
            }
        }
    }
    for (path, both) in folders {
        walk(repo, both, &path, depth + 1, all, found)?;
    }
    Ok(())
}

fn joined(prefix: &BString, name: &BStr) -> BString {
    let mut path = prefix.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
