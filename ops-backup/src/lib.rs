//! Backups of PostgreSQL and SQLite databases, Qdrant collections, directories, files and the output
//! of programs into any object store, and restores that go back.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ops_backup::{Depth, SourceSpec, Vault};
//! use ops_core::{Context, Environment};
//!
//! # let dir = tempfile::tempdir()?;
//! # let data = dir.path().join("data");
//! # std::fs::create_dir(&data)?;
//! # std::fs::write(data.join("note.txt"), "keep me")?;
//! let cx = Context::builder(dir.path().join("state")).environment(Environment::Development).build();
//! let url = format!("file://{}", dir.path().join("backups").display());
//! let vault = Vault::open_url(&url).await?;
//! let backup = vault.create("nightly", &[SourceSpec::directory(&data)], &cx).await?;
//! assert!(vault.verify("nightly", backup.id, Depth::Full).await?.is_whole());
//! # Ok(())
//! # }
//! ```
//!
//! A backup is *listed* when its manifest exists, and the manifest is written last. A restore goes
//! into a new place beside the target, is checked there, and is swapped in by rename; the old is
//! kept beside it as `<target>.before-<operation id>` until somebody removes it;
//! [`Vault::undo_restore`] puts it back. Parts of directories and of databases are restored by
//! themselves, into a target where nothing is.
//!
//! A prune takes backups out by tombstones, which hide them at once and can be taken back, and
//! deletes after its commit. A drill restores into scratch, databases on a server that
//! [`DrillOptions`] name, and keeps an attestation of what it found; [`BackupAge`] and [`LastProvenRestore`] are the probes that ask for both.
//!
//! Where a store lets nothing go, backups go on and prunes hide what they cannot delete.
//!
//! Streams are cut where their content says so, and chunks that an earlier backup of the set has
//! are not uploaded again; still each backup is complete by itself.
//!
//! A repository that is begun with a [`Recipient`] is encrypted with age: chunks are unreadable
//! without a key, manifests and attestations cannot be forged, and the names of chunks tell nothing.
//! Manifests stay readable: names of sources and tables, and sizes, are no secret to the store.
//!
//! A PostgreSQL database ([`SourceSpec::postgres`]) is dumped by several connections in one
//! snapshot, and restored into a new database beside the old, whose names are then swapped.
//!
//! A Qdrant collection ([`SourceSpec::qdrant`]) is backed up as a snapshot of its server, and restored
//! into a new collection, for which an alias then stands.
//!
//! # Limits and figures
//!
//! [`VaultBuilder::store_limit`] and [`VaultBuilder::read_limit`] bound the bytes a second. Through the
//! `metrics` facade come the counters `ops_backup_read_bytes_total`, `ops_backup_stored_bytes_total`,
//! `ops_backup_reused_bytes_total` (plain bytes of chunks that were not uploaded again) and
//! `ops_backup_fetched_bytes_total` (stored bytes that verifications, drills and restores read), and
//! `ops_backup_undeleted_objects_total` (what a store did not let go, each time it was tried).
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `postgres` | no | PostgreSQL databases as sources and as targets, and their `maintenance`; needs PostgreSQL's client programs |
//! | `qdrant` | no | Qdrant collections as sources and as targets, by snapshots |
//! | `s3` | no | stores that speak S3: `s3://bucket/prefix` |
//! | `test-util` | no | fault points, for crash tests |

mod allowance;
mod asked;
mod attest;
#[cfg(feature = "s3")]
mod aws_profile;
mod backup;
mod begun;
mod buffer;
mod chunk;
mod component;
mod cut;
mod digest;
mod drill;
mod error;
mod fault_store;
mod format;
mod identity;
mod key;
mod key_step;
#[cfg(feature = "postgres")]
pub mod maintenance;
mod manifest;
mod open;
mod patience;
mod pipeline;
mod probe;
#[cfg(test)]
mod proptests;
mod prune;
mod repository;
mod restore;
pub mod retention;
mod reuse;
#[cfg(feature = "s3")]
mod s3;
mod source;
mod step;
mod subset;
mod swap;
mod table_seal;
mod throttle;
mod tombstone;
mod undeleted;
mod undo_restore;
mod vault;
mod verify;
mod watch;

pub use attest::{Attestation, Proof};
pub use backup::BackupStep;
pub use drill::{DrillOptions, DrillStep};
pub use error::{Error, ErrorKind};
pub use fault_store::{Fault, FaultStore};
pub use key::{KeyName, Recipient, Unlock};
pub use key_step::KeyStep;
pub use manifest::{
    BackupId, ChunkRecord, MANIFEST_FORMAT, Manifest, SetName, Settings, SourceRecord, TableRecord,
    UnitRecord,
};
pub use open::open_store;
pub use patience::Patience;
pub use probe::{BackupAge, LastProvenRestore};
pub use prune::PruneStep;
pub use restore::{Place, RestoreOptions, RestoreStep};
#[cfg(feature = "s3")]
pub use s3::S3Options;
pub use source::{
    ByteStream, Command, Directory, Dump, Extent, File, Learned, PostgresUrl, QdrantUrl, Session,
    Source, SourceSpec, SqlProbe, Sqlite, Unit,
};
#[cfg(feature = "postgres")]
pub use source::{
    DatabaseOptions, DatabasePlace, DatabaseStep, Postgres, PostgresDump, PostgresGlobals,
    TableChoice,
};
#[cfg(feature = "qdrant")]
pub use source::{Qdrant, QdrantOptions, QdrantPlace, QdrantStep};
pub use step::VaultStep;
pub use subset::Subset;
pub use vault::{Vault, VaultBuilder};
pub use verify::{Depth, Verification};
