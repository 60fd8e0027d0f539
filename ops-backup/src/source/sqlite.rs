//! A SQLite database as the bytes of a consistent copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::Refusal;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{ByteStream, Source, Unit, pipe};
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;

/// A SQLite database, copied while programs read and write it.
///
/// The copy is what one read transaction sees, made by `VACUUM INTO` in the database's folder,
/// which needs as much free space as the database has bytes. It is checked, read and removed. The
/// restored database is compact and in rollback-journal mode; a program that wants the write-ahead
/// log sets it when it opens the database.
#[derive(Debug, Clone)]
pub struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    /// The database in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn copy_path(&self, backup: BackupId) -> PathBuf {
        beside(&self.path, &format!(".backup-{backup}"))
    }

    async fn copy(&self, to: &Path) -> Result<(), Error> {
        let failed = |e| failed("copy", &self.path, e);
        let mut source = connect(&self.path).await?;
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
    Error::new(ErrorKind::Source, format!("cannot {action} database `{}`", path.display()))
        .caused_by(source)
}

async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(30))
        .disable_statement_logging();
    options.connect().await.map_err(|e| failed("open", path, e))
}

async fn check(path: &Path) -> Result<(), Error> {
    let failed = |e| failed("check", path, e);
    let mut connection = connect(path).await?;
    let answer: Result<String, _> =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await;
    connection.close().await.map_err(failed)?;
    let answer = answer.map_err(failed)?;
    if answer == "ok" {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Source,
        format!("database `{}` fails its integrity check: {answer}", path.display()),
    ))
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
            match connect(&self.path).await {
                Ok(connection) => {
                    connection.close().await.map_err(|e| failed("close", &self.path, e))?;
                    Ok(Vec::new())
                }
                Err(error) => Ok(vec![Refusal::new(
                    ops_core::error::chain(&error).join(": "),
                    "name a SQLite database that this user may read",
                )]),
            }
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: "database.sqlite".into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, id: BackupId) -> BoxFuture<'a, Result<ByteStream, Error>> {
        async move {
            let copy = Temporary(self.copy_path(id));
            remove(&copy.0)?;
            self.copy(&copy.0).await?;
            ops_core::fault::point("copied a database");
            Ok(pipe::stream_of(move |out| {
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
            }))
        }
        .boxed()
    }

    fn clean_up(&self, id: BackupId) -> BoxFuture<'_, Result<(), Error>> {
        async move { remove(&self.copy_path(id)) }.boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        bytes: ByteStream,
        place: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let place = place.to_owned();
        async {
            pipe::read_blocking(bytes, move |input| {
                let failed = |e| Error::io("write", &place, e);
                let mut file = File::create_new(&place).map_err(failed)?;
                std::io::copy(input, &mut file).map_err(failed)?;
                file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
                Ok(ops_core::fs::sync_dir(place.parent().unwrap_or(Path::new("/")))?)
            })
            .await
        }
        .boxed()
    }

    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async move { check(place).await }.boxed()
    }
}
