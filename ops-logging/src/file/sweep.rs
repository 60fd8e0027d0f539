//! What lies in the folder, and the removing of what is no longer kept.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use jiff::civil::Date;

use super::name::SegmentName;
use super::owner::Owner;
use super::retention::{Retention, Segment};

/// The files of this prefix, of every process. Links and folders are none, whatever their name.
pub(super) fn list(folder: &Path, prefix: &str) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| SegmentName::parse(prefix, file)) else {
            continue;
        };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                segments.push(Segment { name, bytes: metadata.len() });
            }
            Ok(_) => {}
            // Somebody removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(segments)
}

/// Removes what the policy says of the own set; the owner of the prefix's set also looks after
/// those of processes that have ended.
pub(super) fn remove_expired(
    folder: &Path,
    owner: &Owner,
    open: Option<&SegmentName>,
    retention: Retention,
    today: Date,
) -> io::Result<()> {
    let mut segments = list(folder, &owner.set.prefix)?;
    let mut ours = BTreeSet::from([owner.set.clone()]);
    // Held until the files are gone, so that no new process of the same id begins to write.
    let mut adopted = Vec::new();
    if owner.set.process.is_none() {
        let others: BTreeSet<_> = segments.iter().map(|s| s.name.set.clone()).collect();
        for set in others.difference(&ours.clone()) {
            if let Some(dead) = Owner::adopt(folder, set)? {
                ours.insert(set.clone());
                adopted.push(dead);
            }
        }
    }
    segments.retain(|segment| ours.contains(&segment.name.set));
    let mut failed = None;
    for removal in retention.removals(&segments, open, today) {
        match std::fs::remove_file(folder.join(removal.name.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failed = Some(error),
            _ => {}
        }
    }
    failed.map_or(Ok(()), Err)
}
