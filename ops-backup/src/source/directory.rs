//! A directory as a tar stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::Refusal;

use super::compare::compare;
use super::filter::Filter;
use super::{ByteStream, Dump, Extent, Source, Unit, archive, pipe};
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;

/// A directory with everything in it, as one tar stream in the order of names.
///
/// Kept: files, folders, symbolic links (as links), hard links among the files, names of any bytes,
/// modes, times to the second, owners (where the restoring user may set them). Not kept: extended
/// attributes and holes. Sockets, pipes and devices are refused by name. It follows no links.
///
/// Files are read one after the other, so files that change together need a source of their own;
/// a file that changes while it is read ends the backup with [`ErrorKind::Changed`].
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    include: Vec<String>,
    exclude: Vec<String>,
    /// What is restored, if not everything.
    only: Vec<String>,
}

impl Directory {
    /// This directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (include, exclude, only) = (Vec::new(), Vec::new(), Vec::new());
        Self { path: path.into(), include, exclude, only }
    }

    /// Takes only files that this glob matches, or another of them; folders stay. A glob without a
    /// `/` is of a name at any depth; `*` and `?` do not match `/`, `**` does.
    pub fn include(mut self, glob: impl Into<String>) -> Self {
        self.include.push(glob.into());
        self
    }

    /// Leaves out what this glob matches, and everything below a folder that it matches. It wins
    /// over [`include`](Self::include).
    pub fn exclude(mut self, glob: impl Into<String>) -> Self {
        self.exclude.push(glob.into());
        self
    }

    /// Restores only what these globs match.
    pub(crate) fn restoring(mut self, only: &[String]) -> Self {
        self.only = only.to_vec();
        self
    }

    fn part(&self) -> Result<Option<Filter>, Error> {
        if self.only.is_empty() { Ok(None) } else { Filter::new(&self.only, &[]).map(Some) }
    }

    /// What of an archive would be restored.
    pub(crate) async fn contents(&self, bytes: ByteStream) -> Result<archive::Contents, Error> {
        let filter = Filter::new(&self.only, &[])?;
        pipe::read_blocking(bytes, move |input| archive::contents(input, &filter)).await
    }

    fn filter(&self) -> Result<Filter, Error> {
        Filter::new(&self.include, &self.exclude)
    }
}

impl Source for Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { super::sqlite::canonical(&self.path) }.boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        let path = self.path.clone();
        async {
            let filter = match self.filter() {
                Ok(filter) => filter,
                Err(error) => {
                    return Ok(vec![Refusal::new(error.to_string(), "correct the glob")]);
                }
            };
            tokio::task::spawn_blocking(move || archive::refusals(&path, &filter))
                .await
                .map_err(Error::panicked)
        }
        .boxed()
    }

    fn extent(&self) -> BoxFuture<'_, Result<Extent, Error>> {
        let path = self.path.clone();
        async {
            let filter = self.filter()?;
            // A walk that nobody waits for any more ends.
            let asked = Arc::new(());
            let still = Arc::downgrade(&asked);
            let walk = move || archive::size(&path, &filter, || still.upgrade().is_some());
            let bytes = tokio::task::spawn_blocking(walk).await.map_err(Error::panicked)?;
            drop(asked);
            Ok(Extent::default().bytes(bytes))
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: "files.tar".into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        let path = self.path.clone();
        async {
            let filter = self.filter()?;
            Ok(pipe::stream_of(move |out| archive::write(&path, &filter, out)).into())
        }
        .boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        bytes: ByteStream,
        place: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let place = place.to_owned();
        async {
            let part = self.part()?;
            pipe::read_blocking(bytes, move |input| {
                archive::extract(input, &place, part.as_ref())?;
                Ok(ops_core::fs::sync_tree(&place)?)
            })
            .await
        }
        .boxed()
    }

    fn compare<'a>(
        &'a self,
        _: &'a Unit,
        bytes: ByteStream,
        place: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        let place = place.to_owned();
        async { pipe::read_blocking(bytes, move |input| compare(input, &place)).await }.boxed()
    }

    fn smoke<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if place.is_dir() {
                return Ok(());
            }
            let message = format!("`{}` is no directory", place.display());
            Err(Error::new(ErrorKind::Source, message))
        }
        .boxed()
    }
}
