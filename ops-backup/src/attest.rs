//! What proves a backup: the record of a full verification or of a drill.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ops_core::OperationId;
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::manifest::{BackupId, Manifest, SetName};
use crate::repository::Repository;
use crate::verify::Verification;

const FORMAT: u32 = 1;
const MAX: u64 = 1 << 20;
/// More problems than these are counted, not named.
const MAX_PROBLEMS: usize = 20;

/// How a backup was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Every byte was read, checked and decompressed.
    Verify,
    /// It was restored into scratch and compared there.
    Drill,
}

impl Proof {
    fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Drill => "drill",
        }
    }
}

/// The record of a full verification or of a drill, kept beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attestation {
    /// The version of this format.
    pub format: u32,
    /// How the backup was looked at.
    pub proof: Proof,
    /// The set.
    pub set: SetName,
    /// The backup.
    pub backup: BackupId,
    /// SHA-256 of the manifest that was looked at.
    pub manifest_sha256: String,
    /// When it was found.
    pub at: Timestamp,
    /// Whether nothing was wrong.
    pub whole: bool,
    /// What was wrong; the first 20.
    pub problems: Vec<String>,
    /// How many stored objects were looked at.
    pub objects: u64,
    /// How many plain bytes were read.
    pub bytes: u64,
    /// How many rows were counted, in all tables; 0 for a verification.
    pub rows: u64,
    /// The operation that did it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// The program that did it.
    pub tool: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    attestation: Attestation,
    sha256: String,
    /// Over the same bytes, with the repository's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

impl Attestation {
    pub(crate) fn new(
        proof: Proof,
        manifest: &Manifest,
        at: Timestamp,
        found: &Verification,
    ) -> Result<Self, Error> {
        Ok(Self {
            format: FORMAT,
            proof,
            set: manifest.set.clone(),
            backup: manifest.id,
            manifest_sha256: sha256(&manifest.to_bytes()?),
            at,
            whole: found.is_whole(),
            problems: found.problems.iter().take(MAX_PROBLEMS).cloned().collect(),
            objects: found.objects as u64,
            bytes: found.bytes,
            rows: found.rows,
            operation: None,
            tool: concat!("ops-backup ", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    fn key(&self) -> String {
        let at = self.at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%S.%9fZ").to_string();
        let Self { set, backup, proof, .. } = self;
        format!("sets/{set}/{backup}/attest/{at}-{}.json", proof.name())
    }

    fn to_bytes(&self, identity: Option<&Identity>) -> Result<Vec<u8>, Error> {
        let fail = |e| Error::new(ErrorKind::InvalidInput, "no attestation").caused_by(e);
        let plain = serde_json::to_vec(self).map_err(fail)?;
        let mac = identity.map(|identity| identity.mac(&plain));
        let sealed = Sealed { attestation: self.clone(), sha256: sha256(&plain), mac };
        serde_json::to_vec(&sealed).map_err(fail)
    }

    /// What is damaged, of a newer program, or not of who has the key, proves nothing.
    fn from_bytes(bytes: &[u8], identity: Option<&Identity>) -> Option<Self> {
        let Sealed { attestation, .. } = serde_json::from_slice(bytes).ok()?;
        let again = attestation.to_bytes(identity).ok()?;
        // Digests are compared in the same time whatever differs; of a MAC nothing is to be learned.
        let same = blake3::hash(&again) == blake3::hash(bytes);
        (same && attestation.format <= FORMAT).then_some(attestation)
    }
}

impl Repository {
    /// Keeps an attestation. Keeping the same one twice is fine.
    pub async fn attest(&self, attestation: &Attestation) -> Result<(), Error> {
        let bytes = attestation.to_bytes(self.identity().map(AsRef::as_ref))?;
        self.create(&attestation.key(), bytes.into()).await
    }

    /// The attestation under this key; nothing if it is damaged or was removed.
    pub async fn attestation(&self, key: &str) -> Result<Option<Attestation>, Error> {
        match self.get(key, MAX).await {
            Ok(bytes) => {
                let found = Attestation::from_bytes(&bytes, self.identity().map(AsRef::as_ref));
                Ok(found.filter(|found| found.key() == key))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The newest attestation of a drill of the set that `wanted` accepts.
    pub async fn newest_drill(
        &self,
        set: &SetName,
        wanted: impl Fn(&Attestation) -> bool,
    ) -> Result<Option<Attestation>, Error> {
        let keys = self.set(set).await?.into_values().flatten();
        let mut drills: Vec<_> = keys.filter(|key| key.ends_with("-drill.json")).collect();
        // The name begins with the time, whatever backup it is of.
        drills.sort_by(|a, b| a.rsplit('/').next().cmp(&b.rsplit('/').next()));
        self.newest_attestation(&drills, wanted).await
    }

    /// The newest of these attestations that can be read and that `wanted` accepts.
    pub async fn newest_attestation(
        &self,
        keys: &[String],
        wanted: impl Fn(&Attestation) -> bool,
    ) -> Result<Option<Attestation>, Error> {
        for key in keys.iter().rev() {
            if let Some(found) = self.attestation(key).await?
                && wanted(&found)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_are_what_they_were() {
        let golden = include_bytes!("../tests/attestation-1.json");
        let attestation = Attestation::from_bytes(golden, None).unwrap();
        assert_eq!(attestation.to_bytes(None).unwrap(), golden);
        assert_eq!(
            attestation.key(),
            "sets/nightly/01JD2Q5W3V8Y7K6M4N9P0R1S2T/attest/20261121T060000.000000000Z-drill.json"
        );
        let newer = Attestation { format: 2, ..attestation };
        assert!(Attestation::from_bytes(&newer.to_bytes(None).unwrap(), None).is_none());
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let sealed = newer.to_bytes(Some(&one)).unwrap();
        let attestation = Attestation { format: FORMAT, ..newer };
        let ours = attestation.to_bytes(Some(&one)).unwrap();
        assert!(Attestation::from_bytes(&sealed, Some(&one)).is_none(), "newer");
        assert!(Attestation::from_bytes(&ours, Some(&one)).is_some());
        assert!(Attestation::from_bytes(&ours, Some(&two)).is_none(), "forged");
        assert!(Attestation::from_bytes(golden, Some(&one)).is_none(), "without a key");
    }
}
