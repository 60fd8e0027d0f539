//! A SQLite database as the bytes of a consistent copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{Class, Refusal};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::one_file::restored_as_one_file;
use super::{ByteStream, Dump, Extent, Source, Unit, pipe};
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;

/// A copy is read as soon as it is made, so one as old as this has lost its reader.
const ABANDONED: Duration = Duration::from_hours(24);

/// A SQLite database, copied while programs read and write it.
///
/// The copy is what one read transaction sees, made by `VACUUM INTO` in the database's folder,
/// which needs as much free space as the database has bytes. It is checked, read and removed. The
/// restored database is compact and in rollback-journal mode; a program that wants the write-ahead
/// log sets it when it opens the database. Where nothing was, it is readable to its owner only.
///
/// As with every `VACUUM`, the row ids of a table without an `INTEGER PRIMARY KEY` may change.
#[derive(Debug, Clone)]
pub struct Sqlite {
    path: PathBuf,
    patience: Duration,
}

/// How long a lock of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

impl Sqlite {
    /// The database in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: PATIENCE }
    }

    /// How long a writer that locks everybody out is waited for. Default: 30 s.
    pub fn busy_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn copy_path(&self, backup: BackupId) -> PathBuf {
        beside(&self.path, &format!(".backup-{backup}"))
    }

    /// Removes the copies of backups that were killed, and whose journals nobody recovered.
    fn sweep(&self) -> Result<(), Error> {
        let (Some(name), Some(folder)) = (self.path.file_name(), self.path.parent()) else {
            return Ok(());
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let failed = |e| Error::io("list", folder, e);
        let mut prefix = name.to_owned();
        prefix.push(".backup-");
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let found = entry.file_name();
            let id = found.as_bytes().strip_prefix(prefix.as_bytes());
            let id = id.and_then(|id| std::str::from_utf8(id).ok());
            let ours = id.is_some_and(|id| id.parse::<BackupId>().is_ok());
            let age = entry.metadata().and_then(|meta| meta.modified());
            let age = age.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if ours && age > ABANDONED {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    async fn copy(&self, to: &Path) -> Result<(), Error> {
        let failed = |e| failed("copy", &self.path, e);
        let mut source = connect(&self.path, self.patience).await?;
        // The copy would be sound even where the original is not: damage must not go unnoticed.
        let sound: Result<String, _> =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut source).await;
        let sound = sound.map_err(failed)?;
        if sound != "ok" {
            return Err(damaged(&self.path, &sound)
                .remedy("repair it, such as with `.recover` of the sqlite3 shell"));
        }
        // SQLite makes it readable to all; it accepts an empty file that is there already.
        let mode = self.path.metadata().map_err(|e| Error::io("look at", &self.path, e))?.mode();
        let made = File::options().write(true).create_new(true).mode(mode & 0o600).open(to);
        drop(made.map_err(|e| Error::io("create", to, e))?);
        let target = to.to_str().ok_or_else(|| not_utf8(to))?;
        let copied = sqlx::query("VACUUM INTO ?").bind(target).execute(&mut source).await;
        let closed = source.close().await;
        copied.map_err(failed)?;
        closed.map_err(failed)?;
        check(to).await
    }
}

/// A path with something added to its file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn canonical(path: &Path) -> Result<String, Error> {
    let path = path.canonicalize().map_err(|e| Error::io("find", path, e))?;
    path.to_str().map(str::to_owned).ok_or_else(|| not_utf8(&path))
}

fn not_utf8(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("`{}` is not UTF-8", path.display()))
        .remedy("give it a name in UTF-8; what lies in a directory may have any name")
}

fn failed(action: &str, path: &Path, source: sqlx::Error) -> Error {
    let code = source.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    let message = format!("cannot {action} database `{}`", path.display());
    // Primary result codes, with whatever extension.
    let error = match code.map(|code| code & 0xff) {
        // SQLITE_BUSY and SQLITE_LOCKED.
        Some(5 | 6) => Error::new(ErrorKind::Source, message)
            .class_of(Class::Temporary)
            .remedy("a writer locks it for long; try again, or give the source a longer timeout"),
        // What the machine is to blame for, and not the database: SQLITE_PERM, NOMEM, READONLY,
        // INTERRUPT, IOERR, FULL, CANTOPEN.
        Some(3 | 7..=10 | 13 | 14) => Error::new(ErrorKind::Io, message),
        _ if code.is_none() => Error::new(ErrorKind::Io, message),
        _ => Error::new(ErrorKind::Source, message),
    };
    error.caused_by(source)
}

async fn connect(path: &Path, patience: Duration) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(patience)
        .disable_statement_logging();
    options.connect().await.map_err(|e| failed("open", path, e))
}

async fn check(path: &Path) -> Result<(), Error> {
    let failed = |e| failed("check", path, e);
    let mut connection = connect(path, PATIENCE).await?;
    let answer: Result<String, _> =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await;
    connection.close().await.map_err(failed)?;
    let answer = answer.map_err(failed)?;
    if answer == "ok" {
        return Ok(());
    }
    Err(damaged(path, &answer))
}

fn damaged(path: &Path, answer: &str) -> Error {
    let message = format!("database `{}` fails its integrity check: {answer}", path.display());
    Error::new(ErrorKind::Source, message)
}

/// The rows of each ordinary table; virtual ones may need an extension that is not here.
async fn rows(path: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let failed = |e| failed("count the rows of", path, e);
    let mut connection = connect(path, PATIENCE).await?;
    let counted = async {
        let names = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
                     AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut connection).await?;
        let mut rows = BTreeMap::new();
        for name in names {
            let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
            let count: i64 = count.fetch_one(&mut connection).await?;
            rows.insert(name, u64::try_from(count).unwrap_or_default());
        }
        Ok(rows)
    };
    let counted = counted.await.map_err(failed);
    connection.close().await.map_err(failed)?;
    counted
}

/// Removes the copy, however its reader ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

fn remove(copy: &Path) -> Result<(), Error> {
    ops_core::fs::remove_file_durable(&beside(copy, "-journal"))?;
    Ok(ops_core::fs::remove_file_durable(copy)?)
}

impl Source for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { canonical(&self.path) }.boxed()
    }

    fn versions(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("page_format".into(), "sqlite 3".into())])
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async {
            let Ok(meta) = self.path.metadata() else {
                let reason = format!("there is no database `{}`", self.path.display());
                return Ok(vec![Refusal::new(reason, "name an existing file")]);
            };
            let wal = beside(&self.path, "-wal").metadata().map_or(0, |meta| meta.len());
            let need = meta.len() + wal;
            let free = ops_core::fs::space(&self.path)?.available;
            if free < need {
                let reason = format!(
                    "the copy of `{}` needs {need} bytes, {free} are free",
                    self.path.display()
                );
                return Ok(vec![Refusal::new(reason, "make room on that file system")]);
            }
            match connect(&self.path, self.patience).await {
                Ok(connection) => {
                    connection.close().await.map_err(|e| failed("close", &self.path, e))?;
                    Ok(Vec::new())
                }
                Err(error) => {
                    let remedy = "name a SQLite database that this user may read";
                    Ok(vec![Refusal::of(&error, remedy)])
                }
            }
        }
        .boxed()
    }

    /// The copy is compact, and has what still is in the log.
    fn extent(&self) -> BoxFuture<'_, Result<Extent, Error>> {
        async {
            let size = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
            Ok(Extent::default().bytes(size(&self.path).max(size(&beside(&self.path, "-wal")))))
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: "database.sqlite".into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, id: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async move {
            self.sweep()?;
            let copy = Temporary(self.copy_path(id));
            remove(&copy.0)?;
            self.copy(&copy.0).await?;
            ops_core::fault::point("copied a database");
            let rows = rows(&copy.0).await?;
            let bytes = pipe::stream_of(move |out| {
                let failed = |e| Error::io("read", &copy.0, e);
                let mut file = File::open(&copy.0).map_err(failed)?;
                let mut buffer = vec![0; 256 << 10];
                loop {
                    let read = file.read(&mut buffer).map_err(failed)?;
                    if read == 0 {
                        return Ok(());
                    }
                    out.write_all(&buffer[..read]).map_err(failed)?;
                }
            });
            Ok(Dump::from(bytes).rows(rows))
        }
        .boxed()
    }

    fn clean_up(&self, id: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        async move { remove(&self.copy_path(id)) }.boxed()
    }

    restored_as_one_file!();

    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async move { check(place).await }.boxed()
    }

    fn rows<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<BTreeMap<String, u64>, Error>> {
        async move { rows(place).await }.boxed()
    }
}
