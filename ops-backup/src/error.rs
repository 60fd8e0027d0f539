//! What goes wrong with backups.

use ops_core::Class;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that was handed over has no meaning here.
    InvalidInput,
    /// No such backup, set, component or object.
    NotFound,
    /// Stored bytes are not what the manifest says.
    Corrupt,
    /// Written by a newer version, or by another program.
    Foreign,
    /// The source cannot be read, or what was restored of it does not pass its checks.
    Source,
    /// The source changed while it was read.
    Changed,
    /// The object store refused or lost a call.
    Store,
    /// The file system refused a call.
    Io,
    /// The work was asked to end.
    Cancelled,
    /// The operation around it was refused, or went back.
    Operation,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::Store | Self::Changed | Self::Cancelled => Class::Temporary,
            _ => Class::Permanent,
        }
    }
}

ops_core::define_error! {
    /// The error of this crate.
    pub struct Error(ErrorKind), from core as Operation;
}

impl Error {
    pub(crate) fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {action} `{}`", path.display())).caused_by(source)
    }

    pub(crate) fn store(action: &str, key: &str, source: object_store::Error) -> Self {
        let kind = match source {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Store,
        };
        Self::new(kind, format!("cannot {action} object `{key}`")).caused_by(source)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the work was asked to end")
    }

    pub(crate) fn panicked(join: tokio::task::JoinError) -> Self {
        Self::new(ErrorKind::Source, "a worker thread panicked").caused_by(join)
    }
}
