//! Writing objects so that they are on the disk when the call returns.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ops_core::OperationId;

use crate::error::{Error, ErrorKind};
use crate::refs::sync_if_there;

/// An object in memory.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub id: gix::ObjectId,
    pub kind: gix::objs::Kind,
    pub data: Vec<u8>,
}

impl Object {
    pub fn new(
        repo: &gix::Repository,
        kind: gix::objs::Kind,
        data: Vec<u8>,
    ) -> Result<Self, Error> {
        let id = gix::objs::compute_hash(repo.object_hash(), kind, &data).map_err(|source| {
            Error::new(ErrorKind::Git, "an object cannot be hashed").caused_by(source)
        })?;
        Ok(Self { id, kind, data })
    }

    /// Of what gix knows how to write: a commit, a tag.
    pub fn of(repo: &gix::Repository, object: &impl gix::objs::WriteTo) -> Result<Self, Error> {
        let mut data = Vec::new();
        object.write_to(&mut data).map_err(|source| {
            Error::new(ErrorKind::Git, "an object cannot be encoded").caused_by(source)
        })?;
        Self::new(repo, object.kind(), data)
    }
}

/// The one temporary of an operation. Git's own `gc` takes away what begins like this.
fn temporary(folder: &Path, operation: OperationId) -> PathBuf {
    folder.join(format!("tmp_obj_ops_git_{operation}"))
}

/// Writes objects that are not there yet, each after those that it names, and makes all of them
/// durable, also those that an earlier run wrote.
pub(crate) fn write(
    repo: &gix::Repository,
    objects: &[Object],
    operation: OperationId,
) -> Result<(), Error> {
    let folder = repo.objects.store_ref().path().to_owned();
    let mut folders = BTreeSet::from([folder.clone()]);
    for object in objects {
        let digits = object.id.to_string();
        let fan = folder.join(&digits[..2]);
        let path = fan.join(&digits[2..]);
        if path.symlink_metadata().is_ok() {
            sync_if_there(&path)?;
            folders.insert(fan);
            continue;
        }
        if repo.has_object(object.id) {
            continue;
        }
        if let Err(error) = fs::create_dir(&fan)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(Error::io("create", &fan, error));
        }
        one(&temporary(&folder, operation), &path, object)?;
        folders.insert(fan);
        ops_core::fault::point("git-object-written");
    }
    for folder in folders {
        sync_if_there(&folder)?;
    }
    Ok(())
}

fn one(temporary: &Path, path: &Path, object: &Object) -> Result<(), Error> {
    let failed = |source| Error::io("write", temporary, source);
    // One of an interrupted run.
    if let Err(error) = fs::remove_file(temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o444).open(temporary).map_err(failed)?;
    let file = compress(file, object).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    ops_core::fault::point("git-object-half-written");
    fs::rename(temporary, path).map_err(|source| Error::io("write", path, source))
}

fn compress(file: File, object: &Object) -> std::io::Result<File> {
    let mut deflate =
        gix::zlib::stream::deflate::Write::new(file, gix::zlib::Compression::BEST_SPEED);
    deflate.write_all(&gix::objs::encode::loose_header(object.kind, object.data.len() as u64))?;
    deflate.write_all(&object.data)?;
    deflate.flush()?;
    Ok(deflate.into_inner())
}

/// Clears away what an interrupted [`write`] left half done. Whole objects stay: by now somebody
/// else may rely on them, and git's `gc` takes away those that nobody does.
pub(crate) fn clear(repo: &gix::Repository, operation: OperationId) -> Result<(), Error> {
    let path = temporary(repo.objects.store_ref().path(), operation);
    Ok(ops_core::fs::remove_file_durable(&path)?)
}
