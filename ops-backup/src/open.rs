//! A store from a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use url::Url;

use crate::error::{Error, ErrorKind};

/// Opens the store of a URL: `file:///var/backups` (the folder is created; every write is synced to
/// the disk), `s3://bucket/prefix` with the feature `s3` (see `S3Options` for its parameters, and for
/// the environment variables with the credentials) or `memory:` (gone with the process, for tests).
///
/// Other stores are built by the caller with `object_store` and handed to
/// [`Vault::open`](crate::Vault::open).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if the URL is none, or of another kind; [`ErrorKind::Io`] if the
/// folder cannot be created.
pub fn open_store(url: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    // Never the text itself: it may hold a key.
    let refuse = |why: String| {
        Error::new(ErrorKind::InvalidInput, format!("that is no address of a store: {why}"))
            .remedy("use `file:///absolute/path`, `s3://bucket/prefix` or `memory:`")
    };
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the address of a store must hold no secret",
        )
        .remedy("give the keys of `s3:` as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    }
    match parsed.scheme() {
        "memory" => Ok(Arc::new(InMemory::new())),
        "file" => {
            let path =
                parsed.to_file_path().map_err(|()| refuse("it has no absolute path".into()))?;
            local(&path)
        }
        #[cfg(feature = "s3")]
        "s3" => crate::s3::S3Options::from_url(url)?.open(),
        #[cfg(not(feature = "s3"))]
        "s3" => Err(refuse("this program was built without the feature `s3`".to_owned())),
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
