//! Whether a pack that came over is whole in itself: whatever its objects refer to is in it, or was
//! here before. Git asks the same of what it fetches, else a server that leaves something out would
//! be found out when the version is needed.

use std::collections::BTreeSet;
use std::path::Path;

use gix::hashtable::{HashMap, HashSet};
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};
use gix::odb::pack;
use gix::odb::pack::cache::lru::StaticLinkedList;
use gix::odb::pack::data::entry::Header;

use super::link::Stop;
use crate::error::{Error, ErrorKind, GitResult as _};

/// Bases of deltas that are kept at hand: they come shortly before what is made from them.
const BASES: usize = 256;

/// Looks into every commit, tree and tag of a pack. Files are not read, only looked for. The history
/// may end at the commits of `cut`. Needs some 100 bytes for each object of the pack.
pub(super) fn check(
    repo: &gix::Repository,
    pack: &Path,
    cut: &BTreeSet<gix::ObjectId>,
    stop: &Stop,
) -> Result<(), Error> {
    // There, what was left out comes when it is needed.
    if repo.config_snapshot().string("extensions.partialClone").is_some() {
        return Ok(());
    }
    let doing = || "what came over cannot be read".to_owned();
    let bundle = pack::Bundle::at(pack, repo.object_hash()).doing(doing)?;
    let mut inflate = gix::zlib::Inflate::default();
    let mut bases = StaticLinkedList::<BASES>::default();
    let mut bytes = Vec::new();
    let mut looked = Looked { repo, bundle: &bundle, known: HashSet::default() };
    for (id, kind) in kinds(&bundle)? {
        if kind == Kind::Blob {
            continue;
        }
        stop.check()?;
        bundle.find(&id, &mut bytes, &mut inflate, &mut bases).doing(doing)?;
        let hash = repo.object_hash();
        match kind {
            Kind::Tree => {
                for entry in TreeRefIter::from_bytes(&bytes, hash) {
                    let entry = entry.doing(doing)?;
                    if !entry.mode.is_commit() {
                        looked.expect((kind, id), entry.oid)?;
                    }
                }
            }
            Kind::Commit => {
                let tree = CommitRefIter::from_bytes(&bytes, hash).tree_id().doing(doing)?;
                looked.expect((kind, id), &tree)?;
                if !cut.contains(&id) {
                    for parent in CommitRefIter::from_bytes(&bytes, hash).parent_ids() {
                        looked.expect((kind, id), &parent)?;
                    }
                }
            }
            Kind::Tag => {
                let target = TagRefIter::from_bytes(&bytes, hash).target_id().doing(doing)?;
                looked.expect((kind, id), &target)?;
            }
            Kind::Blob => {}
        }
    }
    Ok(())
}

/// What each object of a pack is, in the order in which they lie there.
fn kinds(bundle: &pack::Bundle) -> Result<Vec<(gix::ObjectId, Kind)>, Error> {
    let doing = || "what came over cannot be read".to_owned();
    let mut entries: Vec<_> = bundle.index.iter().collect();
    entries.sort_unstable_by_key(|entry| entry.pack_offset);
    let mut of_offset = std::collections::HashMap::with_capacity(entries.len());
    let mut of_id: HashMap<gix::ObjectId, Kind> = HashMap::default();
    let mut found = Vec::with_capacity(entries.len());
    let mut inflate = gix::zlib::Inflate::default();
    for pack::index::Entry { oid, pack_offset, .. } in entries {
        let entry = bundle.pack.entry(pack_offset).doing(doing)?;
        // A base comes before what is made from it, but for those that were added from here.
        let known = match &entry.header {
            Header::OfsDelta { base_distance } => {
                entry.checked_base_pack_offset(*base_distance).and_then(|at| of_offset.get(&at))
            }
            Header::RefDelta { base_id } => of_id.get(base_id),
            _ => None,
        };
        let kind = match (entry.header.as_kind(), known) {
            (Some(kind), _) => kind,
            (None, Some(kind)) => *kind,
            (None, None) => {
                let base = |id: &gix::oid| {
                    let at =
                        bundle.index.lookup(id).map(|at| bundle.index.pack_offset_at_index(at));
                    let entry = at.map(|at| bundle.pack.entry(at)).transpose()?;
                    Ok(entry.map(pack::data::decode::header::ResolvedBase::InPack))
                };
                bundle.pack.decode_header(entry, &mut inflate, &base).doing(doing)?.kind
            }
        };
        of_offset.insert(pack_offset, kind);
        of_id.insert(oid, kind);
        found.push((oid, kind));
    }
    Ok(found)
}

/// What was looked for and found.
struct Looked<'a> {
    repo: &'a gix::Repository,
    bundle: &'a pack::Bundle,
    known: HashSet<gix::ObjectId>,
}

impl Looked<'_> {
    fn expect(&mut self, from: (Kind, gix::ObjectId), id: &gix::oid) -> Result<(), Error> {
        if self.known.contains(id) {
            return Ok(());
        }
        if self.bundle.index.lookup(id).is_none() && !self.repo.has_object(id) {
            let (kind, holder) = from;
            let what = format!("the remote left out object {id}, which {kind} {holder} names");
            return Err(Error::new(ErrorKind::Remote, what)
                .class_of(ops_core::Class::Permanent)
                .remedy(
                    "its repository is damaged or its server is broken: try `git fsck` there",
                ));
        }
        self.known.insert(id.to_owned());
        Ok(())
    }
}
