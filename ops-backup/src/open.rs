//! A store from a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use url::Url;

use crate::error::{Error, ErrorKind};

/// Opens the store of a URL: `file:///var/backups` (the folder is created; every write is synced to
/// the disk) or `memory:` (gone with the process, for tests).
///
/// Other stores, such as S3, are built by the caller with `object_store` and handed to
/// [`Vault::open`](crate::Vault::open).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if the URL is none, or of another kind; [`ErrorKind::Io`] if the
/// folder cannot be created.
pub fn open_store(url: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let refuse = |why: String| {
        Error::new(ErrorKind::InvalidInput, format!("`{url}` is no store: {why}"))
            .remedy("use `file:///absolute/path` or `memory:`")
    };
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    match parsed.scheme() {
        "memory" => Ok(Arc::new(InMemory::new())),
        "file" => {
            let path =
                parsed.to_file_path().map_err(|()| refuse("it has no absolute path".into()))?;
            local(&path)
        }
        other => Err(refuse(format!("`{other}:` is not supported"))),
    }
}

fn local(path: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    ops_core::fs::create_dir_durable(path)?;
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|e| Error::store("open", &path.display().to_string(), e))?;
    Ok(Arc::new(store.with_fsync(true)))
}

/// The folder that a URL names, if it is one.
pub(crate) fn folder(url: &str) -> Option<PathBuf> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}
