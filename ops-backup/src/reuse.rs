//! Chunks that earlier backups of a set have, so that they are not uploaded again.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, ChunkRecord, Manifest, SetName};
use crate::repository::Repository;

/// What names a content: BLAKE3 of the plain bytes, keyed in an encrypted repository.
pub(crate) type Content = [u8; 32];

pub(crate) type Known = HashMap<Content, ChunkRecord>;

/// Before this format, contents were named by another digest.
const SINCE: u32 = 4;
/// How many of the newest backups are looked at. What is older and not in one of these has changed.
const NEWEST: usize = 8;
const AT_ONCE: usize = 4;

fn content_of(key: &str) -> Option<Content> {
    let mut content = [0; 32];
    let name = key.rsplit('/').next()?.split('.').next()?;
    hex::decode_to_slice(name, &mut content).ok()?;
    Some(content)
}

impl Repository {
    pub fn content(&self, plain: &[u8]) -> Content {
        match self.identity() {
            None => *blake3::hash(plain).as_bytes(),
            Some(identity) => identity.content_id(plain),
        }
    }

    /// The chunks of the newest listed backups of a set. Those of one that is known to be damaged
    /// are left out, and so is a backup of which the manifest cannot be read.
    ///
    /// Whoever asks has said before that it runs (see `begun`), so no prune deletes what is answered
    /// here before that backup has ended.
    pub async fn reusable(&self, set: &SetName) -> Result<Known, Error> {
        let listed = self.set(set).await?;
        let looked = futures::stream::iter(listed.into_iter().rev().take(NEWEST))
            .map(|(id, attestations)| self.look(set, id, attestations))
            .buffered(AT_ONCE);
        let (mut known, mut damaged) = (Known::new(), HashSet::new());
        let mut looked = std::pin::pin!(looked);
        while let Some(found) = looked.next().await {
            let Some((manifest, whole)) = found? else { continue };
            for chunk in manifest.sources.into_iter().flat_map(|s| s.units).flat_map(|u| u.chunks) {
                if !whole {
                    damaged.insert(chunk.key);
                } else if let Some(content) = content_of(&chunk.key) {
                    known.entry(content).or_insert(chunk);
                }
            }
        }
        known.retain(|_, chunk| !damaged.contains(&chunk.key));
        Ok(known)
    }

    async fn look(
        &self,
        set: &SetName,
        id: BackupId,
        attestations: Vec<String>,
    ) -> Result<Option<(Manifest, bool)>, Error> {
        use ErrorKind as E;
        match self.manifest(set, id).await {
            Ok(manifest) if manifest.format >= SINCE => {
                let newest = self.newest_attestation(&attestations, |_| true).await?;
                Ok(Some((manifest, newest.is_none_or(|found| found.whole))))
            }
            Ok(_) => Ok(None),
            Err(error)
                if matches!(error.kind(), E::NotFound | E::Corrupt | E::Foreign | E::Tampered) =>
            {
                tracing::warn!(target: "ops", %set, %id, "gives no chunks: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
