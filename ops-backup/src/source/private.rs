//! Files with secrets, which nobody else may read.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Refuses a file that others may read; `what` is in it.
pub(super) fn is_private(path: &Path, what: &str) -> Result<(), Error> {
    let meta = path.metadata().map_err(|e| Error::io(&format!("read {what} in"), path, e))?;
    if meta.mode() & 0o077 != 0 {
        let message = format!("{what} in `{}` can be read by others", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, message).remedy("give it the mode 0600"));
    }
    Ok(())
}
