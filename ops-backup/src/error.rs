//! What goes wrong with backups.

use std::error::Error as StdError;

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
            E::Unauthenticated { .. }
                | E::InvalidPath { .. }
                | E::NotSupported { .. }
                | E::NotImplemented { .. }
                | E::UnknownConfigurationKey { .. }
        ) || is_full(&source)
            || is_denied(&source);
        let error = Self::new(kind, format!("cannot {action} object `{key}`"));
        let error = if lasting { error.class_of(Class::Permanent) } else { error };
        error.caused_by(source)
    }

    /// Whether a store, or the system below it, does not allow what was asked.
    pub(crate) fn is_denied(&self) -> bool {
        self.source().is_some_and(is_denied)
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

/// The errors below this one, and itself.
fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// What the system said, if it did.
fn system(error: &(dyn StdError + 'static)) -> Option<std::io::ErrorKind> {
    Some(error.downcast_ref::<std::io::Error>()?.kind())
}

/// Whether a disk is full somewhere below: waiting a second does not cure that.
fn is_full(error: &(dyn StdError + 'static)) -> bool {
    use std::io::ErrorKind as K;
    chain(error)
        .filter_map(system)
        .any(|kind| matches!(kind, K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem))
}

/// Whether something is not allowed somewhere below.
fn is_denied(error: &(dyn StdError + 'static)) -> bool {
    use object_store::Error as E;
    chain(error).any(|error| {
        matches!(error.downcast_ref::<E>(), Some(E::PermissionDenied { .. }))
            || system(error) == Some(std::io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use ops_core::Classify as _;

    use super::*;

    #[test]
    fn what_a_store_will_not_do_a_second_later_either_is_permanent() {
        use std::io::ErrorKind as K;
        let below = |kind: K| object_store::Error::Generic {
            store: "a store",
            source: Box::new(std::io::Error::from(kind)),
        };
        let denied = object_store::Error::PermissionDenied {
            path: "key".into(),
            source: "403".to_owned().into(),
        };
        for (source, class, is_denied) in [
            (denied, Class::Permanent, true),
            (below(K::PermissionDenied), Class::Permanent, true),
            (below(K::StorageFull), Class::Permanent, false),
            (below(K::ConnectionReset), Class::Temporary, false),
        ] {
            let error = Error::store("read", "key", source);
            assert_eq!((error.class(), error.is_denied()), (class, is_denied), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Store);
        }
    }
}
