//! Where two trees differ, whatever their names.

use std::collections::BTreeMap;

use gix::bstr::{BStr, BString};

use super::two_way::{Cell, Kind};
use crate::error::{Error, ErrorKind, GitResult as _};

/// How deep folders may lie in each other.
pub(super) const DEEPEST: usize = 512;

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
    let read = |id: Option<gix::ObjectId>| {
        id.map(|id| repo.find_tree(id).doing(|| format!("tree {id} cannot be read"))).transpose()
    };
    let (old, new) = (read(old)?, read(new)?);
    let (olds, news) = (entries(old.as_ref())?, entries(new.as_ref())?);
    for (side, tree, own, others) in
        [(Side::Old, &old, &olds, &news), (Side::New, &new, &news, &olds)]
    {
        let Some(tree) = tree else { continue };
        for entry in own {
            // What a tree that is out of order hides here is compared below.
            let there = || others.binary_search(entry).ok().and_then(|at| others.get(at));
            if !all && there() == Some(entry) {
                continue;
            }
            // A name that only looks like a path would slip through every check of paths.
            let name = entry.filename;
            if name.contains(&b'/') || name.is_empty() {
                let what =
                    format!("tree {} holds the name `{name}`, which no file may have", tree.id);
                return Err(Error::new(ErrorKind::Hostile, what)
                    .remedy("take it out of the tree, and check out that commit"));
            }
            let path = joined(prefix, name);
            let id = entry.oid.to_owned();
            if let Some(kind) = Kind::of_tree(entry.mode) {
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

fn entries<'a>(
    tree: Option<&'a gix::Tree<'_>>,
) -> Result<Vec<gix::objs::tree::EntryRef<'a>>, Error> {
    let Some(tree) = tree else { return Ok(Vec::new()) };
    let all: Result<_, _> =
        gix::objs::TreeRefIter::from_bytes(&tree.data, tree.id.kind()).collect();
    all.doing(|| format!("tree {} cannot be read", tree.id))
}

fn joined(prefix: &BString, name: &BStr) -> BString {
    let mut path = prefix.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
