//! The repository that a team pushes to, made without a git program.

use std::path::{Path, PathBuf};

use gix::objs::tree::{Entry, EntryKind};
use gix::refs::transaction::PreviousValue;
use ops_core::CommitId;

use crate::failure::Failure;

/// A bare repository with a branch `main`, such as a forge keeps it.
#[derive(Debug, Clone)]
pub struct Upstream(PathBuf);

impl Upstream {
    /// Creates an empty one in a new folder.
    ///
    /// # Errors
    /// If something is there already, or cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Failure> {
        let path = path.as_ref();
        gix::ThreadSafeRepository::init_opts(
            path,
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            gix::open::Options::isolated(),
        )?;
        Ok(Self(path.to_owned()))
    }

    /// One that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it lies; also the URL to pull from.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a commit with exactly these files on top of another one. No branch moves yet.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn commit(
        &self,
        parent: Option<&CommitId>,
        message: &str,
        files: &[(&str, &str)],
    ) -> Result<CommitId, Failure> {
        let repo = gix::open_opts(&self.0, gix::open::Options::isolated())?;
        let mut entries = Vec::new();
        for (name, content) in files {
            let oid = repo.write_blob(content)?.detach();
            entries.push(Entry { mode: EntryKind::Blob.into(), filename: (*name).into(), oid });
        }
        entries.sort();
        let tree = repo.write_object(&gix::objs::Tree { entries })?.detach();
        let author = gix::actor::Signature {
            name: "Ada".into(),
            email: "ada@example.org".into(),
            time: gix::date::Time::now_utc(),
        };
        let mut time = gix::date::parse::TimeBuf::default();
        let author = author.to_ref(&mut time);
        let parents: Vec<_> = parent.map(id_of).transpose()?.into_iter().collect();
        let commit = repo.new_commit_as(author, author, message, tree, parents)?;
        Ok(commit.id.to_string().parse()?)
    }

    /// Moves `main` to a commit: what others see of a push.
    ///
    /// # Errors
    /// If the branch cannot be moved.
    pub fn publish(&self, commit: &CommitId) -> Result<(), Failure> {
        let repo = gix::open_opts(&self.0, gix::open::Options::isolated())?;
        repo.reference("refs/heads/main", id_of(commit)?, PreviousValue::Any, "push")?;
        Ok(())
    }
}

fn id_of(commit: &CommitId) -> Result<gix::ObjectId, Failure> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes())
        .map_err(|error| Failure::unexpected(format!("`{commit}` is no commit: {error}")))
}
