//! Linked work trees: listed, added and taken away again.
//!
//! One that is added appears under `worktrees/` of the git directory whole and locked, then its
//! folder, then its files, which come by the same switch as any checkout. One that is taken away is
//! renamed aside first, and only removed after the operation has committed.

mod add;
mod list;
mod plan;
mod remove;

pub use list::LinkedWorktree;
pub use plan::RemoveWorktreeOptions;

pub(crate) use add::{Added, levels};
pub(crate) use remove::Removal;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ops_core::OperationId;

use crate::error::{Error, ErrorKind};
use crate::lock_file::MARK;
use crate::presence;
use crate::worktree::FOLDER;

/// Where the repository keeps what belongs to a linked work tree.
fn admin(common_dir: &Path, name: &str) -> PathBuf {
    common_dir.join("worktrees").join(name)
}

/// Where an operation keeps what belongs to it.
fn own_folder(common_dir: &Path, id: OperationId) -> PathBuf {
    common_dir.join(FOLDER).join(id.to_string())
}

/// What the lock of a linked work tree says while an operation is about it. Git prunes no work tree
/// that is locked; and by it an operation knows again what is its own.
fn mark(id: OperationId) -> String {
    format!("{MARK}{id}\n")
}

fn is_marked(admin: &Path, id: OperationId) -> Result<bool, Error> {
    Ok(presence::read(&admin.join("locked"))?.is_some_and(|text| text == mark(id).as_bytes()))
}

/// Lets go of the lock, if it is this operation's.
fn unmark(common_dir: &Path, name: &str, id: OperationId) -> Result<(), Error> {
    let admin = admin(common_dir, name);
    if is_marked(&admin, id)? {
        ops_core::fs::remove_file_durable(&admin.join("locked"))?;
    }
    Ok(())
}

/// Lets go of the lock of a work tree that was added.
pub(crate) fn release_added(common_dir: &Path, name: &str, id: OperationId) -> Result<(), Error> {
    unmark(common_dir, name, id)
}

/// Takes what a linked work tree has in the repository away, in one instant.
fn forget(common_dir: &Path, name: &str, id: OperationId) -> Result<(), Error> {
    let (admin, own) = (admin(common_dir, name), own_folder(common_dir, id));
    let gone = own.join(format!("gone-{name}"));
    if is_marked(&admin, id)? {
        ops_core::fs::create_dir_durable(&own)?;
        // One that is left from before is half removed.
        ops_core::fs::remove_dir_durable(&gone)?;
        ops_core::fs::rename_noreplace(&admin, &gone)?;
        ops_core::fault::point("git-worktree-forgotten");
    }
    ops_core::fs::remove_dir_durable(&gone)?;
    tidy(common_dir, id);
    // Git takes the last one's folder away, too.
    let _ = fs::remove_dir(common_dir.join("worktrees"));
    Ok(())
}

/// Folders of past operations would pile up; one that is not empty stays.
fn tidy(common_dir: &Path, id: OperationId) {
    let own = own_folder(common_dir, id);
    let _ = fs::remove_dir(&own).and_then(|()| fs::remove_dir(common_dir.join(FOLDER)));
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = fs::File::create_new(path).map_err(|e| Error::io("create", path, e))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| Error::io("write", path, e))
}

/// Something is in the way that this operation did not make.
fn foreign(what: String) -> Error {
    Error::new(ErrorKind::Foreign, what)
        .remedy("find out who made it; take it away or give another path, then plan afresh")
}
