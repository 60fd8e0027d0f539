//! Putting a new folder into place, whole or not at all, and taking it away again.
//!
//! It is built under a name that derives from the operation's id, which nobody else uses. The new
//! folder's inode and time of birth are noted before it is renamed: what has that identity later is
//! ours, under whatever name; what has not is somebody else's, and is never touched.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ops_core::{OperationId, Refusal, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::bound::Bound;
use crate::error::{Error, ErrorKind};
use crate::path_bytes::PathBytes;
use crate::presence;

/// How often a folder may be built anew within one operation.
const BUILDS: usize = 8;

/// What a folder keeps through a rename and a restart of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    inode: u64,
    /// Nanoseconds since 1970; `None` where the file system does not tell.
    born: Option<u64>,
}

/// The identity of a folder; `None` if there is none.
fn identity(folder: &Path) -> Result<Option<Identity>, Error> {
    let Some(meta) = presence::at(folder)?.filter(fs::Metadata::is_dir) else { return Ok(None) };
    let born =
        meta.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let born = born.and_then(|d| u64::try_from(d.as_nanos()).ok());
    Ok(Some(Identity { inode: meta.ino(), born }))
}

fn is_one_of(folder: &Path, known: &[Identity]) -> Result<bool, Error> {
    Ok(identity(folder)?.is_some_and(|it| known.contains(&it)))
}

fn temporary(folder: &Path, id: OperationId) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.ops-git-{id}"))
}

fn key(folder: &Path, build: usize) -> String {
    format!("export {} {build}", String::from(PathBytes::from(folder)))
}

/// The folders that this operation has built for this place so far.
fn built(folder: &Path, cx: &StepContext) -> Result<Vec<Identity>, StepError> {
    let mut known = Vec::new();
    for build in 0..BUILDS {
        match cx.noted(&key(folder, build))? {
            Some(identity) => known.push(identity),
            None => break,
        }
    }
    Ok(known)
}

pub(crate) fn foreign(folder: &Path, difference: Option<&str>) -> Error {
    let error = Error::new(
        ErrorKind::Foreign,
        format!("`{}` is there already, and is not this export", folder.display()),
    )
    .remedy("give a folder that does not exist, or take this one away");
    match difference {
        Some(difference) => error.with("difference", difference),
        None => error,
    }
}

pub(crate) fn check(folder: &Path, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
    if presence::is_at(folder)? && !is_one_of(folder, &built(folder, cx)?)? {
        return Ok(vec![Refusal::new(
            format!("`{}` is there already", folder.display()),
            "give a folder that does not exist, or take this one away",
        )]);
    }
    Ok(Vec::new())
}

/// Fills a new folder by `fill`, makes it durable and puts it into place.
pub(crate) async fn in_place(
    folder: &Path,
    cx: &StepContext,
    fill: impl FnOnce(&Path, &StepContext) -> Result<(), Error> + Send + 'static,
) -> Result<(), StepError> {
    let known = built(folder, cx)?;
    let parent = folder.parent().unwrap_or(Path::new("/")).to_owned();
    if is_one_of(folder, &known)? {
        // A run that was killed may not have come to that.
        return cx.blocking(move |_| ops_core::fs::sync_dir(&parent)).await;
    }
    if presence::is_at(folder)? {
        return Err(foreign(folder, None).into());
    }
    if known.len() >= BUILDS {
        return Err(StepError::permanent(format!(
            "`{}` was built {BUILDS} times and taken away each time",
            folder.display()
        )));
    }
    let building = temporary(folder, cx.operation());
    let at = building.clone();
    let fresh = cx
        .blocking(move |_| {
            ops_core::fs::create_dir_durable(&parent)?;
            // A half-written one of an earlier run of this step.
            ops_core::fs::remove_dir_durable(&at)?;
            fs::create_dir(&at).map_err(|source| Error::io("create", &at, source))?;
            identity(&at)?.ok_or_else(|| {
                Error::new(ErrorKind::Io, format!("`{}` is gone again", at.display()))
            })
        })
        .await?;
    cx.fault_point("git-export-begun");

    let (at, inner) = (building.clone(), cx.clone());
    cx.blocking(move |cancellation| -> Result<(), Error> {
        Bound::of_a_step(cancellation).within(|| fill(&at, &inner))?;
        inner.fault_point("git-export-written");
        Ok(ops_core::fs::sync_tree(&at)?)
    })
    .await?;
    cx.observe(&key(folder, known.len()), async move { Ok(fresh) }).await?;
    cx.fault_point("git-export-noted");

    let (from, to) = (building, folder.to_owned());
    cx.blocking(move |_| -> Result<(), Error> {
        ops_core::fs::rename_noreplace(&from, &to).map_err(|error| {
            let taken = to.symlink_metadata().is_ok();
            if taken { foreign(&to, None).caused_by(error) } else { error.into() }
        })?;
        Ok(ops_core::fs::sync_dir(to.parent().unwrap_or(Path::new("/")))?)
    })
    .await?;
    cx.fault_point("git-export-in-place");
    Ok(())
}

/// Takes away what this operation has built, in place or not, and nothing else.
pub(crate) async fn undo(folder: &Path, cx: &StepContext) -> Result<(), StepError> {
    let known = built(folder, cx)?;
    let ours = is_one_of(folder, &known)?;
    let building = temporary(folder, cx.operation());
    let folder = folder.to_owned();
    let inner = cx.clone();
    cx.blocking(move |_| -> Result<(), Error> {
        if ours {
            // Renamed first, so that a half-removed folder is never seen in place.
            ops_core::fs::remove_dir_durable(&building)?;
            ops_core::fs::rename_durable(&folder, &building)?;
            inner.fault_point("git-export-moved-away");
        }
        Ok(ops_core::fs::remove_dir_durable(&building)?)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_not_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let known = [identity(dir.path()).unwrap().unwrap()];
        assert!(is_one_of(dir.path(), &known).unwrap());
        assert!(!is_one_of(&dir.path().join("none"), &known).unwrap());
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(is_one_of(&circle.join("below"), &known).is_err());
    }
}
