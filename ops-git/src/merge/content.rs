//! Merging what one path holds.

use gix::bstr::BStr;
use gix::objs::tree::EntryKind;

use super::conflict::{Caution, ConflictKind};
use super::drivers::{Driver, Drivers};
use super::external;
use super::similarity::is_binary;
use super::text::{self, Merged, Overlap};
use super::triples::{Entry, Triple};
use crate::error::{Error, GitResult as _};
use crate::path_bytes::PathBytes;

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    /// It is this; `None` is gone.
    To(Option<Entry>),
    Conflict(ConflictKind),
    Unsure(Caution),
}

/// Files above this are not merged line by line, as with git.
const LARGEST: usize = 1023 * 1024 * 1024;

/// Merges a path by itself: renames are already accounted for.
pub(super) fn resolve(
    repo: &gix::Repository,
    drivers: &mut Drivers,
    path: &BStr,
    triple: &Triple,
) -> Result<Resolved, Error> {
    let Triple { base, ours, theirs } = *triple;
    if ours == theirs || base == theirs {
        return Ok(Resolved::To(ours));
    }
    if base == ours {
        return Ok(Resolved::To(theirs));
    }
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return Ok(Resolved::Conflict(ConflictKind::ModifiedDeleted));
    };
    if !ours.same_type(theirs) {
        return Ok(Resolved::Conflict(ConflictKind::Type));
    }
    if !ours.is_file() {
        let kind = match (base, ours.kind) {
            (None, _) => ConflictKind::BothAdded,
            (Some(_), EntryKind::Commit) => ConflictKind::Submodule,
            (Some(_), _) => ConflictKind::SymbolicLink,
        };
        return Ok(Resolved::Conflict(kind));
    }

    // What the base held counts only if it was a file as well.
    let base_file = base.filter(|base| base.is_file());
    let id = match base_file.map(|base| base.id) {
        _ if ours.id == theirs.id => ours.id,
        Some(base) if base == ours.id => theirs.id,
        Some(base) if base == theirs.id => ours.id,
        _ => {
            let driver = drivers.driver(repo, path)?;
            match files(repo, path, driver, base_file, ours, theirs)? {
                Ok(id) => id,
                Err(Resolved::Conflict(_)) if base.is_none() => {
                    return Ok(Resolved::Conflict(ConflictKind::BothAdded));
                }
                Err(other) => return Ok(other),
            }
        }
    };
    let kind = if ours.kind == theirs.kind || base.is_some_and(|base| base.kind == ours.kind) {
        theirs.kind
    } else if base.is_some_and(|base| base.kind == theirs.kind) {
        ours.kind
    } else {
        return Ok(Resolved::Conflict(ConflictKind::Mode));
    };
    Ok(Resolved::To(Some(Entry { kind, id })))
}

fn files(
    repo: &gix::Repository,
    path: &BStr,
    driver: Driver,
    base: Option<Entry>,
    ours: Entry,
    theirs: Entry,
) -> Result<Result<gix::ObjectId, Resolved>, Error> {
    let contents = || -> Result<[Vec<u8>; 3], Error> {
        let base = base.map(|base| read(repo, base.id)).transpose()?.unwrap_or_default();
        Ok([base, read(repo, ours.id)?, read(repo, theirs.id)?])
    };
    let keep = |content: Vec<u8>| -> Result<gix::ObjectId, Error> {
        let doing = || format!("the merge of `{path}` cannot be kept");
        Ok(repo.write_blob(content).doing(doing)?.detach())
    };
    let conflict = || Ok(Err(Resolved::Conflict(ConflictKind::BothModified)));
    let overlap = match driver {
        Driver::Text => Overlap::Conflict,
        Driver::Union => Overlap::Union,
        Driver::Binary => return conflict(),
        Driver::NotAllowed(driver) => {
            let path = PathBytes::new(path);
            return Ok(Err(Resolved::Unsure(Caution::ExternalDriver { path, driver })));
        }
        Driver::Program(program) => {
            let [base, ours, theirs] = contents()?;
            let merged = external::merge(repo, &program, path, [&base, &ours, &theirs])?;
            return merged.map_or_else(conflict, |content| keep(content).map(Ok));
        }
    };
    let [base, ours, theirs] = contents()?;
    let all = [&base, &ours, &theirs];
    if all.iter().any(|content| content.len() > LARGEST || is_binary(content)) {
        return conflict();
    }
    Ok(match text::merge(&base, &ours, &theirs, overlap) {
        Merged::Clean(content) => Ok(keep(content)?),
        Merged::Conflict => return conflict(),
        Merged::Unclear => {
            Err(Resolved::Unsure(Caution::LinesUnclear { path: PathBytes::new(path) }))
        }
    })
}

pub(super) fn read(repo: &gix::Repository, id: gix::ObjectId) -> Result<Vec<u8>, Error> {
    Ok(repo.find_object(id).doing(|| format!("blob {id} cannot be read"))?.detach().data)
}
