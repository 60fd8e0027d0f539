//! What unfinished operations speak of, and nobody may remove.

use std::collections::BTreeSet;
use std::path::Path;

use ops_core::{OperationId, Version};

use crate::error::Error;

/// Which of these versions an unfinished operation of this state directory speaks of, our own one
/// left out. It reads journals as text: a version too many is kept rather than one too few.
pub(crate) fn named_by_open_journals(
    state_dir: &Path,
    versions: &[Version],
    but: Option<OperationId>,
) -> Result<BTreeSet<Version>, Error> {
    let folder = state_dir.join("journals/open");
    let failed = |error| Error::io("read the open journals in", &folder, error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let own = but.map(|own| format!("{own}.jsonl"));
    let mut named = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if own.as_ref().is_some_and(|own| entry.file_name() == own.as_str()) {
            continue;
        }
        let text = match std::fs::read(entry.path()) {
            Ok(text) => text,
            // It was closed in this moment.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let text = String::from_utf8_lossy(&text);
        named.extend(versions.iter().filter(|version| text.contains(version.as_str())).cloned());
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_open_journal_names_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("journals/open");
        let (ours, other) = (OperationId::generate(), OperationId::generate());
        let versions: Vec<Version> = ["v1", "v2", "v3"].map(|name| name.parse().unwrap()).to_vec();
        assert!(named_by_open_journals(folder.path(), &versions, Some(ours)).unwrap().is_empty());
        std::fs::create_dir_all(&open).unwrap();
        std::fs::write(open.join(format!("{ours}.jsonl")), "v1 v2").unwrap();
        std::fs::write(open.join(format!("{other}.jsonl")), r#"{"path":"/releases/v3"}"#).unwrap();
        let named = named_by_open_journals(folder.path(), &versions, Some(ours)).unwrap();
        assert_eq!(named.iter().map(Version::as_str).collect::<Vec<_>>(), ["v3"]);
    }
}
