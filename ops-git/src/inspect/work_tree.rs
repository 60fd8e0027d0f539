//! What a work tree has that its commit has not.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use gix::bstr::{BStr, BString};
use gix::dir::walk::delegate::Collect;
use gix::index::entry::{Mode, Stage};

use super::InspectOptions;
use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::path_bytes::{PathBytes, on_disk};
use crate::repository::open_options;
use crate::worktree::{OpenIndex, staged};

/// How deep submodules are followed into submodules.
const DEPTH: usize = 16;

/// Everything that was found, by what it means.
#[derive(Debug, Default)]
struct Found {
    changed: BTreeSet<BString>,
    unmerged: BTreeSet<BString>,
    untracked: BTreeSet<BString>,
    hidden: BTreeSet<BString>,
    submodules: BTreeSet<BString>,
    unknown: Vec<String>,
    sparse: bool,
    split: bool,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.unknown.is_empty()
            && [&self.changed, &self.unmerged, &self.untracked, &self.hidden, &self.submodules]
                .iter()
                .all(|paths| paths.is_empty())
    }
}

/// Whatever fails on the way means that nothing can be said, and that is a blocker too.
pub(super) fn of_the_work_tree(repo: &gix::Repository, options: &InspectOptions) -> Vec<Blocker> {
    let found = look(repo, options, DEPTH);
    let mut blockers = Vec::new();
    let mut listed = |paths: BTreeSet<BString>, blocker: fn(Vec<PathBytes>, usize) -> Blocker| {
        if !paths.is_empty() {
            let first = paths.iter().take(Blocker::LISTED).map(PathBytes::new).collect();
            blockers.push(blocker(first, paths.len()));
        }
    };
    listed(found.unmerged, |paths, total| Blocker::Unmerged { paths, total });
    listed(found.changed, |paths, total| Blocker::Dirty { paths, total });
    listed(found.hidden, |paths, total| Blocker::HiddenChanges { paths, total });
    listed(found.untracked, |paths, total| Blocker::Untracked { paths, total });
    listed(found.submodules, |paths, total| Blocker::Submodules { paths, total });
    if found.sparse {
        blockers.push(Blocker::Sparse);
    }
    if found.split {
        blockers.push(Blocker::SplitIndex);
    }
    blockers.extend(found.unknown.into_iter().map(|reason| Blocker::StatusUnknown { reason }));
    blockers
}

fn look(repo: &gix::Repository, options: &InspectOptions, depth: usize) -> Found {
    let mut found = Found::default();
    if let Err(error) = try_look(repo, options, depth, &mut found) {
        found.unknown.push(ops_core::error::chain(&error).join(": "));
    }
    found
}

fn try_look(
    repo: &gix::Repository,
    options: &InspectOptions,
    depth: usize,
    found: &mut Found,
) -> Result<(), Error> {
    let doing = || "the state of the work tree cannot be read".to_owned();
    let index = OpenIndex::read(repo)?;
    found.split = index.is_split();
    found.sparse = index.is_sparse();
    found.hidden = index.hidden_changes(repo)?;
    if !options.submodules {
        for entry in index.state().entries() {
            if entry.mode == Mode::COMMIT && entry.stage() == Stage::Unconflicted {
                let path = entry.path(index.state());
                if submodule_differs(repo, path, entry.id, depth)? {
                    found.submodules.insert(path.to_owned());
                }
            }
        }
    }
    let head = repo.head_tree_id_or_empty().doing(doing)?.detach();
    let tree = (head != repo.object_hash().empty_tree()).then_some(head);
    found.changed = staged(repo, tree, index.state())?;
    let (changed, unknown) = index.changed(repo)?;
    found.changed.extend(changed);
    found.unknown.extend(unknown);
    found.unmerged = index.unmerged();
    if !options.untracked {
        let options = repo
            .dirwalk_options()
            .doing(doing)?
            .emit_untracked(gix::dir::walk::EmissionMode::CollapseDirectory);
        let (never, mut files) = (AtomicBool::new(false), Collect::default());
        repo.dirwalk(index.state(), None::<&BStr>, &never, options, &mut files).doing(doing)?;
        let paths = files.unorded_entries.into_iter().map(|(entry, _)| entry.rela_path);
        found.untracked.extend(paths);
    }
    // An unmerged path differs from the commit too, and once is enough.
    found.changed.retain(|path| !found.unmerged.contains(path));
    Ok(())
}

/// Whether a submodule that is there is at another commit than the index says, or has changes of
/// its own. One that was never fetched into its place is as it should be.
fn submodule_differs(
    repo: &gix::Repository,
    path: &BStr,
    wanted: gix::ObjectId,
    depth: usize,
) -> Result<bool, Error> {
    let Some(workdir) = repo.workdir() else { return Ok(false) };
    let folder = workdir.join(on_disk(path));
    match folder.join(".git").symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A folder that is gone, or has something in it without being a repository.
            let mut entries = match folder.read_dir() {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(Error::io("list", &folder, error)),
            };
            return Ok(entries.next().is_some());
        }
        // A file, or a link: no folder at any rate.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(true),
        Err(error) => return Err(Error::io("look at", &folder, error)),
    }
    let doing = || format!("submodule `{path}` cannot be read");
    if depth == 0 {
        return Err(Error::new(ErrorKind::Git, doing()).with("deeper_than", DEPTH));
    }
    let inner = gix::open_opts(&folder, open_options()).doing(doing)?;
    let head = inner.head().doing(doing)?.id().map(gix::Id::detach);
    if head != Some(wanted) {
        return Ok(true);
    }
    Ok(!look(&inner, &InspectOptions::default(), depth - 1).is_nothing())
}
