//! Qdrant collections.
//!
//! `client` speaks with the server; `snapshot` is the source, `place` the target of a restore, and
//! `stage` fills a new collection and looks whether it is the one of the backup.

#[cfg(feature = "qdrant")]
mod client;
#[cfg(feature = "qdrant")]
mod place;
#[cfg(feature = "qdrant")]
pub(crate) mod scratch;
#[cfg(feature = "qdrant")]
mod snapshot;
#[cfg(feature = "qdrant")]
mod stage;
mod url;

use std::sync::Arc;

use super::{Source, SourceSpec};
use crate::error::{Error, ErrorKind};
#[cfg(feature = "qdrant")]
pub use place::{QdrantOptions, QdrantPlace, QdrantStep};
#[cfg(feature = "qdrant")]
pub use snapshot::Qdrant;
pub use url::QdrantUrl;

/// The source of a collection.
pub(crate) fn source(spec: &SourceSpec) -> Result<Arc<dyn Source>, Error> {
    #[cfg(feature = "qdrant")]
    if let SourceSpec::Qdrant { url } = spec {
        return Ok(Arc::new(Qdrant::new(url.clone())));
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("this program cannot read `{spec}`"))
        .remedy("build it with the feature `qdrant` of ops-backup"))
}
