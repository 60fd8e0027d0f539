//! Alerts as lines of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::Mutex;

use super::{Channel, Limits, Receipt};
use crate::alert::Alert;
use crate::dead_letter::append_line;
use crate::error::{Error, ErrorKind};

/// Appends each alert as one line of JSON and returns when it is on the disk.
///
/// Several processes can share a file. A future that is dropped leaves the line written or not, but
/// whole.
#[derive(Debug)]
pub struct FileChannel {
    name: String,
    limits: Limits,
    // Held by the thread that writes, so that a disk that hangs costs one thread and no more.
    path: Arc<Mutex<PathBuf>>,
}

impl FileChannel {
    /// Appends to this file, which is created with its folders when it is needed. Lines are at
    /// most 1 MiB.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path = Arc::new(Mutex::new(path.into()));
        Self { name: name.into(), limits: Limits::new(1024 * 1024), path }
    }

    /// Cuts lines to so many bytes.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits = Limits::new(bytes);
        self
    }
}

impl Channel for FileChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
        async move {
            // The line break counts.
            let room = self.limits.max_bytes.saturating_sub(1);
            let line = alert.to_json_within(room).ok_or_else(|| {
                let message = "the alert is too large for the channel, even when cut";
                Error::new(ErrorKind::Refused, message)
                    .with("channel", &self.name)
                    .with("max_bytes", self.limits.max_bytes)
            })?;
            let path = Arc::clone(&self.path).lock_owned().await;
            let write = move || {
                let path: &Path = &path;
                append_line(path, line).map_err(|source| {
                    Error::io(format!("cannot append the alert to `{}`", path.display()), source)
                })
            };
            tokio::task::spawn_blocking(write)
                .await
                .map_err(|source| Error::panicked(&self.name, source))??;
            Ok(Receipt::new(&self.name, "on disk"))
        }
        .boxed()
    }
}
