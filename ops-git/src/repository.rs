//! A repository on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ops_core::{Context, Plan, Recovery, Report, Resource, ResourceId};
use tokio_util::sync::CancellationToken;

use crate::blocker::Inspection;
use crate::bound::Bound;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::inspect::{self, InspectOptions};
use crate::path_bytes::PathBytes;
use crate::step::GitStep;
use crate::worktree::Memo;

/// A repository on disk: a bare mirror, or one with a work tree.
///
/// It is cheap to clone, and a [`Resource`]: operations on it exclude each other across programs
/// by a lock file in its git directory.
///
/// Only the repository's own configuration is read: neither the user's nor the system's, nor
/// environment variables, so that the same repository behaves alike in every process. Exceptions:
/// over http the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`) is used, and over ssh
/// `GIT_SSH_COMMAND`, `GIT_SSH` and `GIT_SSH_VARIANT`.
#[derive(Debug, Clone)]
pub struct GitRepository {
    git_dir: PathBuf,
    common_dir: PathBuf,
    id: ResourceId,
    credentials: Option<Credentials>,
    memo: Arc<Memo>,
}

pub(crate) fn open_options() -> gix::open::Options {
    gix::open::Options::isolated()
}

/// Opens a git directory as it is named.
pub(crate) fn open_git_dir(git_dir: &Path) -> Result<gix::Repository, Error> {
    gix::open_opts(git_dir, open_options().open_path_as_is(true))
        .doing(|| format!("repository `{}` cannot be opened", git_dir.display()))
}

impl GitRepository {
    /// Opens the repository at this path: a bare one, a `.git` folder, or the root of a work tree.
    ///
    /// Blocks for some file reads. Nothing is created; see [`mirror`](Self::mirror) for that.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no repository, [`ErrorKind::Git`] if it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let path = path.canonicalize().map_err(|source| {
            Error::new(ErrorKind::NotFound, format!("no repository at `{}`", path.display()))
                .remedy("create it with `GitRepository::mirror`, or give another path")
                .caused_by(source)
        })?;
        let repo = gix::open_opts(&path, open_options()).map_err(|source| {
            Error::git(format!("`{}` cannot be opened as a repository", path.display()), source)
                .remedy("give a bare repository, a `.git` folder or the root of a work tree")
        })?;
        let canonical =
            |dir: &Path| dir.canonicalize().map_err(|source| Error::io("find", dir, source));
        let git_dir = canonical(repo.git_dir())?;
        let common_dir = canonical(repo.common_dir())?;
        // As text where it is text, and never the same for two paths.
        let id = ResourceId::new("git", String::from(PathBytes::from(&*common_dir)));
        Ok(Self { git_dir, common_dir, id, credentials: None, memo: Arc::default() })
    }

    /// Answers remotes that ask who this is, in place of the credential helpers that the
    /// repository's configuration names.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// What was read of its own work tree while something was planned.
    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The git directory.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    pub(crate) fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Opened afresh each time: configuration and refs may have changed, and gix's own handle is
    /// not to be shared between threads.
    pub(crate) fn handle(&self) -> Result<gix::Repository, Error> {
        open_git_dir(&self.git_dir)
    }

    /// Runs blocking work on the repository, off the async threads. Dropping the future ends the
    /// programs that the work runs, and else lets it run to its end.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&gix::Repository) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.blocking_until(&CancellationToken::new(), work).await
    }

    /// The same, and this cancellation ends the programs, too.
    pub(crate) async fn blocking_until<T: Send + 'static>(
        &self,
        cancellation: &CancellationToken,
        work: impl FnOnce(&gix::Repository) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let token = cancellation.child_token();
        let bound = Bound::of_a_look(token.clone());
        let _dropped = token.drop_guard();
        let work = move || bound.within(|| work(&this.handle()?));
        tokio::task::spawn_blocking(work).await.map_err(|join| {
            Error::new(ErrorKind::Git, "the work on the repository panicked").caused_by(join)
        })?
    }

    /// Looks at the repository and names everything that stands in the way of an operation, all at
    /// once. Reads only; for upstream it compares with what was fetched last.
    ///
    /// # Errors
    /// If the repository cannot be read at all. What goes wrong while looking for changes is a
    /// blocker, not an error.
    pub async fn inspect(&self) -> Result<Inspection, Error> {
        self.inspect_with(InspectOptions::default()).await
    }

    /// [`inspect`](Self::inspect), which lets some things pass.
    ///
    /// # Errors
    /// Those of [`inspect`](Self::inspect).
    pub async fn inspect_with(&self, options: InspectOptions) -> Result<Inspection, Error> {
        self.blocking(move |repo| inspect::inspect(repo, &options)).await
    }

    /// Approves and runs a plan for this repository alone.
    ///
    /// # Errors
    /// [`ErrorKind::Operation`] with the report, if it did not end in its new state.
    pub async fn execute(&self, plan: Plan, cx: &Context) -> Result<Report, Error> {
        Ok(cx.execute(plan, &self).await?)
    }

    /// Ends every interrupted operation on this repository. Safe to call always.
    ///
    /// # Errors
    /// Those of [`ops_core::recover`].
    pub async fn recover(&self, cx: &Context) -> Result<Recovery, Error> {
        Ok(ops_core::recover(&self, cx).await?)
    }
}

impl Resource for GitRepository {
    type Step = GitStep;

    fn id(&self) -> ResourceId {
        self.id.clone()
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.common_dir.join("ops-git.lock"))
    }
}
