//! stub
use crate::error::Error;
use std::path::Path;
/// s
pub fn sync_dir(folder: &Path) -> Result<(), Error> {
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))
}
/// s
pub fn create_dir_durable(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))
}
/// s
pub fn rename_durable(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|e| Error::io("rename", from, e))
}
