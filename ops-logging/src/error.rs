//! What can go wrong before logging works. Afterwards nothing fails: lines are counted as lost.

use ops_core::Class;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The settings have no meaning; every reason is listed.
    InvalidInput,
    /// The process has a global subscriber or logger already.
    AlreadyInstalled,
    /// The operating system refused a call.
    Io,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::InvalidInput | Self::AlreadyInstalled | Self::Io => Class::Permanent,
        }
    }
}

ops_core::define_error! {
    /// The error of this crate.
    pub struct Error(ErrorKind);
}

impl Error {
    pub(crate) fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let class = ops_core::Classify::class(&source);
        Self::new(ErrorKind::Io, format!("cannot {action} `{}`", path.display()))
            .class_of(class)
            .caused_by(source)
    }
}
