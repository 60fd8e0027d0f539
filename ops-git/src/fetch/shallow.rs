//! History that is cut off: at which commits, and moving the cut.

use std::collections::BTreeSet;

use gix::protocol::fetch::Shallow;

use super::History;
use crate::error::{Error, GitResult as _};

/// What to ask a remote for.
pub(super) fn asked(
    repo: &gix::Repository,
    remote: &str,
    history: History,
) -> Result<Shallow, Error> {
    Ok(match history {
        History::AtMost(depth) if is_new(repo, remote)? => Shallow::DepthAtRemote(depth),
        History::Deepen(more) if is_cut(repo)? => Shallow::Deepen(more.get()),
        History::Complete if is_cut(repo)? => Shallow::undo(),
        _ => Shallow::NoChange,
    })
}

/// Whether nothing has been fetched from this remote, and nothing is here.
pub(super) fn is_new(repo: &gix::Repository, remote: &str) -> Result<bool, Error> {
    let doing = || "the refs cannot be read".to_owned();
    for prefix in [format!("refs/remotes/{remote}/"), "refs/heads/".to_owned()] {
        if repo.references().doing(doing)?.prefixed(prefix.as_str()).doing(doing)?.next().is_some()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_cut(repo: &gix::Repository) -> Result<bool, Error> {
    Ok(!boundary(repo)?.is_empty())
}

/// The commits whose parents are not here.
pub(crate) fn boundary(repo: &gix::Repository) -> Result<BTreeSet<gix::ObjectId>, Error> {
    let doing = || "where the history is cut off cannot be read".to_owned();
    let commits = repo.shallow_commits().doing(doing)?;
    Ok(commits.iter().flat_map(|commits| commits.iter().copied()).collect())
}

/// Writes where the history is cut off, durably.
pub(super) fn write(
    repo: &gix::Repository,
    boundary: &BTreeSet<gix::ObjectId>,
) -> Result<(), Error> {
    let file = repo.shallow_file().doing(|| "the shallow file has no place".to_owned())?;
    if boundary.is_empty() {
        return if file.symlink_metadata().is_ok() {
            Ok(ops_core::fs::remove_file_durable(&file)?)
        } else {
            Ok(())
        };
    }
    let text = text(boundary);
    Ok(ops_core::fs::atomic_write(&file, text.as_bytes())?)
}

/// The boundary as gix wrote it into a copy of the file.
pub(super) fn read(copy: &std::path::Path) -> Result<BTreeSet<gix::ObjectId>, Error> {
    let text = match std::fs::read_to_string(copy) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Error::io("read", copy, error)),
    };
    let id = |line: &str| gix::ObjectId::from_hex(line.as_bytes());
    text.lines().map(id).collect::<Result<_, _>>().map_err(|source| {
        Error::new(crate::error::ErrorKind::Git, "the remote names no commits where history ends")
            .caused_by(source)
    })
}

/// Writes a copy for gix to change.
pub(super) fn copy(boundary: &BTreeSet<gix::ObjectId>, to: &std::path::Path) -> Result<(), Error> {
    if boundary.is_empty() {
        return Ok(());
    }
    let text = text(boundary);
    std::fs::write(to, text).map_err(|source| Error::io("write", to, source))
}

fn text(boundary: &BTreeSet<gix::ObjectId>) -> String {
    let mut text = String::new();
    for id in boundary {
        text += &id.to_string();
        text.push('\n');
    }
    text
}
