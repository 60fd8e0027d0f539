//! What goes wrong in a deployment.

use ops_core::Class;

/// What went wrong, to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting has no meaning.
    InvalidConfig,
    /// The version does not exist, or is not complete.
    IncompleteVersion,
    /// Which version is in service cannot be told.
    UnknownCurrent,
    /// There is nothing to go back to.
    NoPrevious,
    /// The service did not start, or did not stop.
    Service,
    /// The new version did not pass its gate.
    Gate,
    /// The traffic was moved by somebody else in the meantime.
    Conflict,
    /// The proxy does not answer, or answers what it should not.
    Proxy,
    /// The container engine does not answer, or refuses.
    Engine,
    /// Somebody else deploys there.
    Locked,
    /// Something on disk was written by a newer version.
    Foreign,
    /// Something on disk is damaged.
    Corrupt,
    /// The operating system refused a call.
    Io,
    /// The operation ended without the new state; the report says where it stands.
    Operation,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::Proxy | Self::Locked => Class::Temporary,
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
        let class = ops_core::Classify::class(&source);
        Self::new(ErrorKind::Io, format!("cannot {action} `{}`", path.display()))
            .class_of(class)
            .caused_by(source)
    }
}
