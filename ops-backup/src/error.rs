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
    /// Something else is there already.
    Exists,
    /// Stored bytes are not what the manifest says.
    Corrupt,
    /// Stored bytes were written by somebody without the repository's key.
    Tampered,
    /// The repository is encrypted, and no key that was given opens it.
    WrongKey,
    /// Written by a newer version, or by another program.
    Foreign,
    /// The source cannot be read, or what was restored of it does not pass its checks.
    Source,
    /// The source changed while it was read.
    Changed,
    /// A database server refused or lost a call.
    Database,
    /// The object store refused or lost a call.
    Store,
    /// The file system refused a call.
    Io,
    /// A part of this program died: a bug, and nothing that a backup or a store is to blame for.
    Internal,
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
        use object_store::Error as E;
        let kind = match source {
            E::NotFound { .. } => ErrorKind::NotFound,
            E::AlreadyExists { .. } => ErrorKind::Exists,
            _ => ErrorKind::Store,
        };
        let lasting = matches!(
            source,
            E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::InvalidPath { .. }
                | E::NotSupported { .. }
                | E::NotImplemented { .. }
                | E::UnknownConfigurationKey { .. }
        ) || is_full(&source);
        let error = Self::new(kind, format!("cannot {action} object `{key}`"));
        let error = if lasting { error.class_of(Class::Permanent) } else { error };
        error.caused_by(source)
    }

    /// Whether a store, or the system below it, does not allow what was asked.
    pub(crate) fn is_denied(&self) -> bool {
        use object_store::Error as E;
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let store = error.downcast_ref::<object_store::Error>();
            let system = error.downcast_ref::<std::io::Error>();
            if matches!(store, Some(E::PermissionDenied { .. }))
                || system.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            {
                return true;
            }
            next = error.source();
        }
        false
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the work was asked to end")
    }

    pub(crate) fn panicked(join: tokio::task::JoinError) -> Self {
        Self::internal("a worker thread panicked").caused_by(join)
    }

    pub(crate) fn internal(what: &str) -> Self {
        Self::new(ErrorKind::Internal, what)
    }
}

/// Whether a disk is full somewhere below: waiting a second does not cure that.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind as K;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem)
        {
            return true;
        }
        next = error.source();
    }
    false
}
