//! What can go wrong with a repository.

use std::path::Path;

use ops_core::{Class, Classify as _, Refusal};

/// What went wrong with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that was handed over has no meaning here.
    InvalidInput,
    /// There is no such repository, branch, tag, commit or remote.
    NotFound,
    /// A name or a short id fits several commits.
    Ambiguous,
    /// Inspection refused the operation, with every reason at once; nothing was changed.
    Refused,
    /// Local and upstream history went separate ways, or the upstream was rewritten.
    Diverged,
    /// Both sides changed the same things; nothing was changed.
    Conflict,
    /// A commit that the history needs is missing, or cannot be read.
    HistoryUnavailable,
    /// Nobody is named who commits or tags.
    NoIdentity,
    /// A branch is at a commit where neither the plan nor the step that runs left it.
    Moved,
    /// A folder is in the way that this operation did not make.
    Foreign,
    /// A tree holds what must not be written to a disk.
    Hostile,
    /// The remote cannot be reached, or does not answer as a git server does.
    Remote,
    /// The remote asks for credentials, or does not accept the ones it got.
    Unauthenticated,
    /// The deadline passed before the remote was done.
    TimedOut,
    /// A cancellation came.
    Cancelled,
    /// The repository is damaged, or cannot be read as one.
    Git,
    /// The operating system refused a call.
    Io,
    /// An operation on the repository ended without its new state; see the report.
    Operation,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::Remote => Class::Temporary,
            Self::TimedOut | Self::Cancelled => Class::OutcomeUnknown,
            _ => Class::Permanent,
        }
    }
}

ops_core::define_error! {
    /// The error of this crate.
    pub struct Error(ErrorKind), from core as Operation;
}

impl Error {
    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        let class = source.class();
        Self::new(ErrorKind::Io, format!("cannot {action} `{}`", path.display()))
            .class_of(class)
            .caused_by(source)
    }

    pub(crate) fn git(what: impl Into<String>, source: gix::Error) -> Self {
        let kind =
            if source.classify().is_not_found() { ErrorKind::NotFound } else { ErrorKind::Git };
        Self::new(kind, what).caused_by(source)
    }

    /// A missing commit is no name that means nothing: the repository is not whole.
    pub(crate) fn history(what: impl Into<String>, source: gix::Error) -> Self {
        Self::new(ErrorKind::HistoryUnavailable, what)
            .remedy("see what `git fsck` says; fetch the rest with `git fetch --unshallow`, or mirror afresh")
            .caused_by(source)
    }

    pub(crate) fn refused(what: impl Into<String>, reasons: Vec<Refusal>) -> Self {
        Self::new(ErrorKind::Refused, what).refusals(reasons)
    }
}

/// Names what was being done when gix failed.
pub(crate) trait GitResult<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;

    /// The same where the history of this commit was being read.
    fn history(self, tip: gix::ObjectId) -> Result<T, Error>;
}

impl<T> GitResult<T> for gix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::git(what(), source))
    }

    fn history(self, tip: gix::ObjectId) -> Result<T, Error> {
        self.map_err(|source| {
            Error::history(format!("the history of {tip} is not accessible"), source)
        })
    }
}
