//! The cache tree: an index's own note of which tree objects its entries would make.
//!
//! Git keeps it in the extension `TREE` (gitformat-index(5)), and trusts it: where a folder's id is
//! the commit's, neither its tree nor its entries are compared.

use gix::bstr::ByteSlice as _;
use gix::index::State;
use gix::index::entry::{Flags, Stage};
use gix::index::extension::Tree;
use gix::objs::tree::EntryKind;

use super::tree_diff::DEEPEST;
use crate::error::{Error, ErrorKind, GitResult as _};

/// Whether an index is, by its own note, what a tree has, and nothing else.
fn is_of(index: &State, tree: gix::ObjectId) -> bool {
    let plain = |entry: &gix::index::Entry| {
        entry.stage() == Stage::Unconflicted && !entry.flags.contains(Flags::INTENT_TO_ADD)
    };
    index.tree().is_some_and(|note| note.id == tree && covers(note, index))
        && index.entries().iter().all(plain)
}

fn covers(note: &Tree, index: &State) -> bool {
    note.num_entries.is_some_and(|count| count as usize == index.entries().len())
}

/// The note for the index that comes: of the tree `new`, if the old index was `old`'s and nothing
/// else, or there was none. Folders that are the same in both are not read.
pub(super) fn carried(
    repo: &gix::Repository,
    before: Option<&State>,
    (old, new): (Option<gix::ObjectId>, gix::ObjectId),
    next: &State,
) -> Result<Option<Tree>, Error> {
    let known = match (before, old) {
        (None, _) => None,
        (Some(index), Some(old)) if is_of(index, old) => index.tree(),
        _ => return Ok(None),
    };
    let note = note(repo, b"", known, new, 0)?;
    Ok(note.filter(|note| covers(note, next)))
}

fn note(
    repo: &gix::Repository,
    name: &[u8],
    known: Option<&Tree>,
    id: gix::ObjectId,
    depth: usize,
) -> Result<Option<Tree>, Error> {
    if let Some(known) = known.filter(|known| known.id == id && known.num_entries.is_some()) {
        return Ok(Some(known.clone()));
    }
    if depth > DEEPEST {
        return Err(Error::new(ErrorKind::Hostile, format!("tree {id} lies too deep")));
    }
    let doing = || format!("tree {id} cannot be read");
    let tree = repo.find_tree(id).doing(doing)?;
    let (mut count, mut children) = (0_u32, Vec::new());
    for entry in tree.iter() {
        let entry = entry.doing(doing)?;
        if entry.mode().kind() != EntryKind::Tree {
            count = count.saturating_add(1);
            continue;
        }
        let name = entry.filename();
        let known = known.and_then(|tree| tree.children.iter().find(|c| c.name.as_bstr() == name));
        let Some(child) = self::note(repo, name, known, entry.oid().to_owned(), depth + 1)? else {
            return Ok(None);
        };
        count = count.saturating_add(child.num_entries.unwrap_or(0));
        children.push(child);
    }
    // Git has no entry for an empty folder, and no note of one.
    children.retain(|child| child.num_entries != Some(0));
    // As git orders them: the shorter name first.
    children.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    Ok(Some(Tree { name: name.into(), id, num_entries: Some(count), children }))
}
