//! Streams of bytes that nobody interprets: what a program prints, and a file.

use std::fs::File as StdFile;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::Refusal;

use super::one_file::restored_as_one_file;
use super::{ByteStream, Dump, Extent, Source, Unit, child, one_file, pipe};
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;

const KIND: &str = "stream";

/// What a program prints on its standard output.
///
/// The backup is made only if the program ends with exit code 0. It runs without a shell, without
/// input, in a process group that ends with the backup, and sees of the environment `PATH`, `HOME`,
/// `USER`, `LOGNAME`, `LANG`, `LC_ALL`, `TZ` and `TMPDIR`. The arguments stand in plans, journals and
/// manifests: name a file that holds a secret, not the secret. What it printed is restored to a
/// [`File`].
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
}

impl Command {
    /// This program with these arguments.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect() }
    }
}

/// One file, as its bytes. Restored, it is readable to its owner only until it takes the mode of one
/// that it replaces.
#[derive(Debug, Clone)]
pub struct File {
    path: PathBuf,
}

impl File {
    /// This file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

fn unit() -> BoxFuture<'static, Result<Vec<Unit>, Error>> {
    async { Ok(vec![Unit { name: "stream".into() }]) }.boxed()
}

impl Source for Command {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { Ok(self.argv.join(" ")) }.boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async {
            let program = self.argv.first().map(String::as_str).unwrap_or_default();
            let folders = std::env::var_os("PATH").unwrap_or_default();
            let found = !program.is_empty()
                && (program.contains('/') && Path::new(program).is_file()
                    || !program.contains('/')
                        && std::env::split_paths(&folders).any(|f| f.join(program).is_file()));
            if found {
                return Ok(Vec::new());
            }
            let reason = format!("there is no program `{program}`");
            Ok(vec![Refusal::new(reason, "install it, or name it with its path")])
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        unit()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async { Ok(child::stream_of(self.argv.clone()).into()) }.boxed()
    }

    restored_as_one_file!();

    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async move { one_file::exists(place) }.boxed()
    }
}

impl Source for File {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { super::sqlite::canonical(&self.path) }.boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async {
            if self.path.is_file() && StdFile::open(&self.path).is_ok() {
                return Ok(Vec::new());
            }
            let reason = format!("`{}` is no file that this user may read", self.path.display());
            Ok(vec![Refusal::new(reason, "name an existing file")])
        }
        .boxed()
    }

    fn extent(&self) -> BoxFuture<'_, Result<Extent, Error>> {
        async {
            let size = self.path.metadata().map_err(|e| Error::io("look at", &self.path, e))?.len();
            Ok(Extent::default().bytes(size))
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        unit()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        let path = self.path.clone();
        let read = move |out: &mut dyn std::io::Write| {
            let failed = |e| Error::io("read", &path, e);
            let mut file = StdFile::open(&path).map_err(failed)?;
            let state = |file: &StdFile| {
                file.metadata().map(|meta| (meta.len(), meta.mtime(), meta.mtime_nsec()))
            };
            let before = state(&file).map_err(failed)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let read = file.read(&mut buffer).map_err(failed)?;
                if read == 0 {
                    break;
                }
                out.write_all(&buffer[..read]).map_err(failed)?;
            }
            if state(&file).map_err(failed)? == before {
                return Ok(());
            }
            let message = format!("`{}` changed while it was read", path.display());
            Err(Error::new(ErrorKind::Changed, message).remedy("stop its writer, and try again"))
        };
        async { Ok(pipe::stream_of(read).into()) }.boxed()
    }

    restored_as_one_file!();

    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async move { one_file::exists(place) }.boxed()
    }
}
