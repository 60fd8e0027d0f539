//! What can be backed up.

mod archive;
mod child;
mod compare;
mod directory;
mod extent;
mod filter;
mod marked;
mod one_file;
mod percent;
mod pipe;
pub(crate) mod postgres;
#[cfg(any(feature = "postgres", feature = "qdrant"))]
mod private;
#[cfg(test)]
mod proptests;
pub(crate) mod qdrant;
mod session;
mod sqlite;
mod stream;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use ops_core::Refusal;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::manifest::BackupId;
pub(crate) use archive::Contents;
pub use directory::Directory;
pub use extent::Extent;
#[cfg(feature = "postgres")]
pub use postgres::{
    DatabaseOptions, DatabasePlace, DatabaseStep, Postgres, PostgresDump, PostgresGlobals,
    TableChoice,
};
pub use postgres::{PostgresUrl, SqlProbe};
pub use qdrant::QdrantUrl;
#[cfg(feature = "qdrant")]
pub use qdrant::{Qdrant, QdrantOptions, QdrantPlace, QdrantStep};
pub use session::{Learned, Session};
pub use sqlite::Sqlite;
pub(crate) use sqlite::beside;
pub use stream::{Command, File};

/// Bytes in pieces. Dropping it stops the one who makes them.
pub type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// One stream of bytes that a source gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name, unique within the source.
    pub name: String,
}

/// What a [`Source`] gives of a unit.
#[non_exhaustive]
pub struct Dump {
    /// Its bytes.
    pub bytes: ByteStream,
    /// The rows of each of its tables, as they are in these bytes; empty where there are none.
    pub rows: BTreeMap<String, u64>,
}

impl Dump {
    /// The rows of each table in the bytes, for the manifest; drills compare them.
    pub fn rows(mut self, rows: BTreeMap<String, u64>) -> Self {
        self.rows = rows;
        self
    }
}

impl From<ByteStream> for Dump {
    fn from(bytes: ByteStream) -> Self {
        Self { bytes, rows: BTreeMap::new() }
    }
}

impl Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// What can be backed up into a stream of bytes, and restored from it into a new place.
pub trait Source: Debug + Send + Sync {
    /// What the bytes are: `sqlite`. A backup is restored by a source of the same kind.
    fn kind(&self) -> &str;

    /// What tells this source from another of its kind.
    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>>;

    /// Versions of the programs that read it, for the manifest.
    fn versions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Every reason why it cannot be backed up now.
    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>>;

    /// How much there is to read, by an estimate, for those who watch. It is asked for while the
    /// backup runs already, and must be quick. Default: unknown.
    fn extent(&self) -> BoxFuture<'_, Result<Extent, Error>> {
        Box::pin(async { Ok(Extent::default()) })
    }

    /// The streams that it consists of.
    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>>;

    /// One of its streams. Temporaries carry the backup's id in their name.
    fn dump<'a>(&'a self, unit: &'a Unit, backup: BackupId) -> BoxFuture<'a, Result<Dump, Error>>;

    /// Holds one moment of the source, so that all its streams are of that moment and several are
    /// read at once. Default: none is held, and [`plan`](Self::plan) and [`dump`](Self::dump) are
    /// called for one stream after the other.
    fn open(&self, backup: BackupId) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Error>> {
        let _ = backup;
        Box::pin(async { Ok(None) })
    }

    /// Removes what a [`dump`](Self::dump) for this backup left when its process died.
    fn clean_up(&self, backup: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        let _ = backup;
        Box::pin(async { Ok(()) })
    }

    /// What whoever cleans up after a process that died has to know, where names do not follow from
    /// the backup's id. It is made durable before the source is opened. Default: nothing.
    fn observe(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Like [`clean_up`](Self::clean_up), with what [`observe`](Self::observe) answered, or its
    /// [`Session`].
    fn clean_up_observed(
        &self,
        backup: BackupId,
        observed: String,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let _ = (backup, observed);
        Box::pin(async { Ok(()) })
    }

    /// Writes one of its streams to a place where nothing is yet, durably.
    ///
    /// It works until the stream ends or fails, and has no thread at work when it returns.
    fn restore<'a>(
        &'a self,
        unit: &'a Unit,
        bytes: ByteStream,
        place: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Whether what was restored to this place works.
    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>>;

    /// What of a unit at this place differs from these bytes, of which it was restored. Default:
    /// nothing is compared.
    fn compare<'a>(
        &'a self,
        unit: &'a Unit,
        bytes: ByteStream,
        place: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        let _ = (unit, bytes, place);
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The rows of each table at this place. Default: there are none.
    fn rows<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<BTreeMap<String, u64>, Error>> {
        let _ = place;
        Box::pin(async { Ok(BTreeMap::new()) })
    }
}

/// A source as data, for plans and journals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[non_exhaustive]
pub enum SourceSpec {
    /// A SQLite database.
    Sqlite {
        /// Its file.
        path: PathBuf,
    },
    /// A directory with everything in it, or with what globs say.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Of which files, if not of all; see [`Directory::include`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        include: Vec<String>,
        /// What is left out; see [`Directory::exclude`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<String>,
    },
    /// What a program prints; see [`Command`].
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// One file, or the place for what a program printed.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A PostgreSQL database, dumped in parallel. Needs the feature `postgres`.
    Postgres {
        /// The database.
        url: PostgresUrl,
    },
    /// A PostgreSQL database as one `pg_dump -Fc`. Needs the feature `postgres`.
    PostgresDump {
        /// The database.
        url: PostgresUrl,
    },
    /// The roles and tablespaces of a PostgreSQL server. Needs the feature `postgres`.
    PostgresGlobals {
        /// Any database of the server.
        url: PostgresUrl,
    },
    /// A Qdrant collection. Needs the feature `qdrant`.
    Qdrant {
        /// The collection.
        url: QdrantUrl,
    },
    /// A source that the program registered under this name in its vault.
    Named {
        /// The name.
        name: String,
    },
}

impl SourceSpec {
    /// The SQLite database in this file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite { path: path.into() }
    }

    /// This directory with everything in it.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory { path: path.into(), include: Vec::new(), exclude: Vec::new() }
    }

    /// What this program prints.
    pub fn command(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Command { argv: argv.into_iter().map(Into::into).collect() }
    }

    /// This file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into() }
    }

    /// Takes of a directory only files that this glob matches, or another of them. Other sources
    /// are as they are.
    pub fn include(mut self, glob: impl Into<String>) -> Self {
        if let Self::Directory { include, .. } = &mut self {
            include.push(glob.into());
        }
        self
    }

    /// Leaves out of a directory what this glob matches. Other sources are as they are.
    pub fn exclude(mut self, glob: impl Into<String>) -> Self {
        if let Self::Directory { exclude, .. } = &mut self {
            exclude.push(glob.into());
        }
        self
    }

    /// Whether it is the same thing, whatever of it is included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory { path: one, .. }, Self::Directory { path: two, .. }) => one == two,
            (one, two) => one == two,
        }
    }

    /// This PostgreSQL database.
    pub fn postgres(url: PostgresUrl) -> Self {
        Self::Postgres { url }
    }

    /// This PostgreSQL database as `pg_dump -Fc` gives it.
    pub fn postgres_dump(url: PostgresUrl) -> Self {
        Self::PostgresDump { url }
    }

    /// The roles and tablespaces of the server of this PostgreSQL database.
    pub fn postgres_globals(url: PostgresUrl) -> Self {
        Self::PostgresGlobals { url }
    }

    /// This Qdrant collection.
    pub fn qdrant(url: QdrantUrl) -> Self {
        Self::Qdrant { url }
    }

    /// The source that was registered under this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named { name: name.into() }
    }
}

impl std::fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Self::Directory { path, .. } => write!(f, "directory:{}", path.display()),
            Self::Command { argv } => write!(f, "cmd:{}", argv.join(" ")),
            Self::File { path } => write!(f, "file:{}", path.display()),
            Self::Postgres { url } => write!(f, "{url}"),
            Self::PostgresDump { url } => write!(f, "dump:{url}"),
            Self::PostgresGlobals { url } => write!(f, "globals:{url}"),
            Self::Qdrant { url } => write!(f, "{url}"),
            Self::Named { name } => write!(f, "named:{name}"),
        }
    }
}
