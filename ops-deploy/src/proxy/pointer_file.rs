//! The pointer on disk: the newest one, and the last one before it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::traffic::Pointer;

const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    schema: u32,
    #[serde(flatten)]
    pointer: Pointer,
}

/// The pointer on disk. Its folder belongs to one process at a time.
#[derive(Debug)]
pub(super) struct PointerFile {
    newest: PathBuf,
    last_good: PathBuf,
}

impl PointerFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { newest: folder.join("pointer.json"), last_good: folder.join("pointer.last.json") }
    }

    /// What was written last; where that is damaged, what was written before it; where nothing
    /// was ever written, a pointer to nothing.
    pub(super) fn read(&self) -> Result<Pointer, Error> {
        match read(&self.newest) {
            Err(damaged) if damaged.kind() == ErrorKind::Corrupt => {
                let Some(pointer) = read(&self.last_good)? else { return Err(damaged) };
                tracing::warn!(target: "ops", epoch = pointer.epoch, "{damaged}; the one before it is used");
                // The damaged switch may have been the next epoch. Skipping it makes sure that
                // nobody's knowledge of it matches what is true now.
                Ok(Pointer { epoch: pointer.epoch + 2, ..pointer })
            }
            read => Ok(read?.unwrap_or_default()),
        }
    }

    /// Writes a newer pointer durably; the one before it stays as the last good one.
    pub(super) fn write(&self, before: &Pointer, after: &Pointer) -> Result<(), Error> {
        if after.epoch <= before.epoch {
            return Err(crate::traffic::conflict(after.epoch.saturating_sub(1), before));
        }
        write(&self.last_good, before)?;
        ops_core::fault::point("proxy: last good pointer written");
        write(&self.newest, after)
    }
}

fn write(path: &Path, pointer: &Pointer) -> Result<(), Error> {
    let written = Written { schema: SCHEMA, pointer: pointer.clone() };
    let bytes = serde_json::to_vec(&written).expect("a pointer is made of JSON values");
    Ok(ops_core::fs::atomic_write(path, &bytes)?)
}

fn read(path: &Path) -> Result<Option<Pointer>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let damaged = |source: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, format!("the pointer `{}` is damaged", path.display()))
            .remedy("remove it once you know where the traffic should go; the next deployment writes it anew")
            .caused_by(source)
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    if let Some(schema) = value["schema"].as_u64()
        && schema > u64::from(SCHEMA)
    {
        return Err(Error::new(
            ErrorKind::Foreign,
            format!("`{}` was written by a newer proxy", path.display()),
        )
        .with("schema", schema)
        .with("known", SCHEMA)
        .remedy("run the newer proxy"));
    }
    serde_json::from_value::<Written>(value).map(|w| Some(w.pointer)).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Upstream;

    fn to(port: u16, epoch: u64) -> Pointer {
        let address = ([127, 0, 0, 1], port).into();
        Pointer { epoch, upstream: Some(Upstream { address, instance: format!("i{port}") }) }
    }

    #[test]
    fn a_damaged_pointer_falls_back_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = PointerFile::in_folder(folder.path());
        assert_eq!(file.read().unwrap(), Pointer::default());
        file.write(&Pointer::default(), &to(1, 1)).unwrap();
        file.write(&to(1, 1), &to(2, 2)).unwrap();
        assert_eq!(file.read().unwrap(), to(2, 2));

        std::fs::write(folder.path().join("pointer.json"), b"{\"schema\":1,\"epo").unwrap();
        assert_eq!(file.read().unwrap(), to(1, 3), "the address of the last good one");

        std::fs::write(folder.path().join("pointer.json"), b"{\"schema\":9}").unwrap();
        assert_eq!(file.read().unwrap_err().kind(), ErrorKind::Foreign);
    }

    #[test]
    fn an_older_epoch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = PointerFile::in_folder(folder.path());
        file.write(&Pointer::default(), &to(2, 2)).unwrap();
        assert_eq!(file.write(&to(2, 2), &to(1, 2)).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(file.read().unwrap(), to(2, 2));
    }

    #[test]
    fn the_first_format_is_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let golden =
            r#"{"schema":1,"epoch":2,"upstream":{"address":"127.0.0.1:2","instance":"i2"}}"#;
        std::fs::write(folder.path().join("pointer.json"), golden).unwrap();
        let file = PointerFile::in_folder(folder.path());
        assert_eq!(file.read().unwrap(), to(2, 2));
        file.write(&to(2, 2), &to(2, 3)).unwrap();
        let kept = std::fs::read_to_string(folder.path().join("pointer.last.json")).unwrap();
        assert_eq!(kept, golden);
    }
}
