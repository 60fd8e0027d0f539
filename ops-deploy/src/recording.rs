//! Writes the history as a step: an entry more, and back.

use std::path::{Path, PathBuf};

use ops_core::{StepContext, StepError, Version};

use crate::error::Error;
use crate::history::{Entry, History, Verb};

fn key(version: &Version) -> String {
    format!("history before {version}")
}

/// The entry of this operation, without what only some targets know.
pub(crate) fn entry(version: &Version, verb: Verb, cx: &StepContext) -> Entry {
    let entry = Entry::new(version.clone(), verb, cx.context().clock().now());
    Entry { operation: Some(cx.operation().to_string()), ..entry }
}

/// Adds an entry to what `complete` makes of the record, if it does not stand there yet.
pub(crate) async fn record(
    path: PathBuf,
    entry: Entry,
    complete: impl FnOnce(Option<History>) -> Result<History, Error> + Send + 'static,
    cx: &StepContext,
) -> Result<(), StepError> {
    let known = path.clone();
    let look = cx.blocking(move |_| Ok::<_, Error>(History::read(&known)?.is_some()));
    cx.observe(&key(&entry.version), look).await?;
    cx.blocking(move |_| {
        let record = History::read(&path)?;
        let ours =
            |known: &Entry| known.operation == entry.operation && known.version == entry.version;
        if record.as_ref().is_some_and(|history| history.0.iter().any(ours)) {
            return settled(&path);
        }
        let mut history = complete(record)?;
        history.push(entry);
        history.write(&path)
    })
    .await
}

/// Takes the entry of this operation back, and the whole record if it was none before.
pub(crate) async fn unrecord(
    path: PathBuf,
    version: &Version,
    cx: &StepContext,
) -> Result<(), StepError> {
    let Some(existed) = cx.noted::<bool>(&key(version))? else { return Ok(()) };
    let (version, id) = (version.clone(), cx.operation().to_string());
    cx.blocking(move |_| {
        if !existed {
            return Ok(ops_core::fs::remove_file_durable(&path)?);
        }
        let Some(mut history) = History::read(&path)? else { return Ok(()) };
        let before = history.0.len();
        let ours =
            |known: &Entry| known.operation.as_deref() == Some(&id) && known.version == version;
        history.0.retain(|known| !ours(known));
        if history.0.len() == before {
            return settled(&path);
        }
        history.write(&path)
    })
    .await
}

/// Whoever wrote it may have been killed before its name was on the disk.
fn settled(path: &Path) -> Result<(), Error> {
    Ok(ops_core::fs::sync_dir(path.parent().unwrap_or(path))?)
}
