//! The manifest: the one object that makes a backup exist.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ops_core::{Environment, OperationId};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::digest::sha256;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::repository::chunk_owner;
use crate::source::SourceSpec;

/// The manifest format that this crate writes, and the newest that it reads.
///
/// 2 added the rows of each table, 3 what a source learned of itself, 4 keyed digests,
/// authentication, and chunks that earlier backups uploaded, 5 keyed digests of tables, 6 XXH3 of rows
/// and BLAKE3 of units instead of SHA-256; older ones are read.
pub const MANIFEST_FORMAT: u32 = 6;

/// The name of one backup: a ULID, so that names sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(Ulid);

impl BackupId {
    /// The backup of a set that an operation makes: the same in every process, so that whoever
    /// recovers the operation finds what it left.
    pub(crate) fn of(operation: OperationId, set: &SetName) -> Result<Self, Error> {
        let operation = operation.to_string();
        let moment = Ulid::from_string(&operation)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "no operation id").caused_by(e))?
            .timestamp_ms();
        let digest = sha256(format!("{operation}/{set}").as_bytes());
        let random = u128::from_str_radix(&digest[..20], 16).unwrap_or_default();
        Ok(Self(Ulid::from_parts(moment, random)))
    }

    /// When the operation that made it began, by the clock of its machine.
    pub fn moment(self) -> Timestamp {
        let moment = i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ulid::from_string(text).map(Self).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, format!("`{text}` is no backup id"))
                .remedy("a backup id has 26 characters, such as 01JD2Q5W3V8Y7K6M4N9P0R1S2T")
                .caused_by(source)
        })
    }
}

/// The name of a backup set: lower-case letters, digits, `-`, `_`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName(String);

impl FromStr for SetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !text.is_empty() && text.len() <= 64 && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorKind::InvalidInput, format!("`{text}` is no name of a backup set"))
            .remedy("use 1 to 64 of a-z, 0-9, `-` and `_`"))
    }
}

impl TryFrom<String> for SetName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl AsRef<str> for SetName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<SetName> for String {
    fn from(name: SetName) -> Self {
        name.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the bytes are cut and compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settings {
    /// Plain bytes a chunk holds at most, 1 KiB to 16 MiB. Chunks end where their content says so,
    /// and hold a quarter of this on average. Default: 8 MiB.
    pub chunk_size: usize,
    /// Level of zstd, 1 to 19. Default: 1. Beside 3 it takes about half the time for rows of numbers and
    /// for JSON and no less for text, and makes text and JSON about 3 % larger.
    pub zstd_level: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { chunk_size: 8 << 20, zstd_level: 1 }
    }
}

/// One stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// Where it lies in the store.
    pub key: String,
    /// Its size, in bytes.
    pub stored_size: u64,
    /// SHA-256 of its bytes.
    pub stored_sha256: String,
    /// The size of what it holds, decompressed, in bytes.
    pub plain_size: u64,
}

/// One stream of bytes that a source gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Its name within the source.
    pub name: String,
    /// Its size, in bytes.
    pub plain_size: u64,
    /// SHA-256 of its bytes, in manifests before format 6 of a repository that is not encrypted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plain_sha256: String,
    /// BLAKE3 of its bytes, keyed in an encrypted repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plain_blake3: String,
    /// The rows of each of its tables, where it has tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
    /// The objects that hold it, in order.
    pub chunks: Vec<ChunkRecord>,
}

/// What one source gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Which source it was.
    pub source: SourceSpec,
    /// Its kind, which says what the bytes are: `sqlite`, `directory`.
    pub kind: String,
    /// What tells this source from another of its kind.
    pub fingerprint: String,
    /// Versions of the programs that read it.
    pub versions: BTreeMap<String, String>,
    /// What else it told of itself, such as the snapshot that was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// Its tables, where they are more than the streams that hold them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableRecord>,
    /// Its bytes.
    pub units: Vec<UnitRecord>,
}

/// What one table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// How many rows.
    pub rows: u64,
    /// A digest of the rows that does not depend on their order: `xxh3:` and the sum of the XXH3 (128
    /// bits, of the row as `COPY` writes it in its text format, without the line break) of each; before
    /// format 6 the sum of their SHA-256. In an encrypted repository that is digested again with a key,
    /// and begins with `blake3-xxh3:`; in format 5 with `blake3:`, and before it was plain there, too.
    pub content: String,
}

/// What a backup is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// Its name.
    pub id: BackupId,
    /// The set that it belongs to.
    pub set: SetName,
    /// The operation that made it.
    pub operation: OperationId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Where it was made.
    pub environment: Environment,
    /// The program that wrote it.
    pub tool: String,
    /// How its bytes are cut and compressed.
    pub settings: Settings,
    /// Its sources, in the order in which they were read.
    pub sources: Vec<SourceRecord>,
}

#[derive(Serialize)]
struct Sealed<'a> {
    manifest: &'a Manifest,
    sha256: String,
    /// Over the same bytes, with the repository's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

impl Manifest {
    /// The bytes of `manifest.json`: one line of JSON, with the SHA-256 of its manifest part. It is
    /// not authenticated; a vault does that where its repository is encrypted.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.seal(None)
    }

    /// The bytes of `manifest.json`, authenticated where there is a key.
    pub(crate) fn seal(&self, identity: Option<&Identity>) -> Result<Vec<u8>, Error> {
        let plain = serde_json::to_vec(self).map_err(unwritable)?;
        self.sealed(&plain, identity.map(|identity| identity.mac(&plain)))
    }

    fn sealed(&self, plain: &[u8], mac: Option<String>) -> Result<Vec<u8>, Error> {
        let sealed = Sealed { manifest: self, sha256: sha256(plain), mac };
        serde_json::to_vec(&sealed).map_err(unwritable)
    }

    /// Reads `manifest.json`, and refuses it if any byte differs from what was written. Who wrote it
    /// is not asked; a vault does that where its repository is encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] for a newer format, [`ErrorKind::Corrupt`] for damage.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse(bytes).map(|(manifest, _)| manifest)
    }

    /// Reads `manifest.json`, of which the writer must have had the key, where there is one.
    pub(crate) fn unseal(bytes: &[u8], identity: Option<&Identity>) -> Result<Self, Error> {
        let (manifest, mac) = Self::parse(bytes)?;
        let Some(identity) = identity else { return Ok(manifest) };
        let plain = serde_json::to_vec(&manifest).map_err(unwritable)?;
        if mac.is_some_and(|mac| identity.is_mac(&plain, &mac)) {
            return Ok(manifest);
        }
        let Self { set, id, .. } = manifest;
        let message = format!("the manifest of backup {id} of set `{set}` is not authentic");
        Err(Error::new(ErrorKind::Tampered, message).remedy(
            "somebody without the repository's key wrote it: find out who can write to the store",
        ))
    }

    fn parse(bytes: &[u8]) -> Result<(Self, Option<String>), Error> {
        let corrupt = || {
            Error::new(ErrorKind::Corrupt, "the manifest is damaged")
                .remedy("use another backup of the set")
        };
        let mut value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| corrupt().caused_by(e))?;
        let format = value["manifest"]["format"].as_u64().ok_or_else(corrupt)?;
        if format > u64::from(MANIFEST_FORMAT) {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "the manifest has format {format}, this program reads up to {MANIFEST_FORMAT}"
                ),
            )
            .remedy("use the version of the program that wrote it, or a newer one"));
        }
        let mac = value["mac"].as_str().map(str::to_owned);
        let manifest: Self =
            serde_json::from_value(value["manifest"].take()).map_err(|e| corrupt().caused_by(e))?;
        // The writer has one way of writing, so equal bytes are the strictest check there is.
        let plain = serde_json::to_vec(&manifest).map_err(unwritable)?;
        if manifest.sealed(&plain, mac.clone())? != bytes {
            return Err(corrupt());
        }
        Ok((manifest, mac))
    }

    /// The stored bytes that this backup uploaded itself; the rest earlier ones had.
    pub fn uploaded(&self) -> u64 {
        let own = |chunk: &&ChunkRecord| chunk_owner(&chunk.key) == Some(self.id);
        let chunks: BTreeMap<_, _> = (self.units().flat_map(|unit| &unit.chunks).filter(own))
            .map(|chunk| (&chunk.key, chunk.stored_size))
            .collect();
        chunks.values().copied().fold(0, u64::saturating_add)
    }

    /// The size of everything in it, decompressed, in bytes.
    pub fn plain_size(&self) -> u64 {
        self.units().fold(0, |sum, unit| sum.saturating_add(unit.plain_size))
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = &UnitRecord> {
        self.sources.iter().flat_map(|source| &source.units)
    }
}

impl SourceRecord {
    /// The size of its streams, decompressed, in bytes.
    pub(crate) fn plain_size(&self) -> u64 {
        self.units.iter().fold(0, |sum, unit| sum.saturating_add(unit.plain_size))
    }
}

fn unwritable(source: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, "a manifest cannot be written").caused_by(source)
}
