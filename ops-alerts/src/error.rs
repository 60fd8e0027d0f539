//! What can go wrong on the way of an alert.

use std::time::Duration;

use ops_core::Class;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that was handed over has no meaning here.
    InvalidInput,
    /// The receiver will not take this alert, however often it is sent.
    Refused,
    /// The receiver took nothing now and may later.
    Unavailable {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nobody knows whether the receiver took it. Sending it again is safe where the receiver
    /// knows alerts by their id.
    Unknown,
    /// No channel took the alert.
    Undelivered,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::InvalidInput | Self::Refused | Self::Undelivered => Class::Permanent,
            Self::Unavailable { .. } => Class::Temporary,
            Self::Unknown => Class::OutcomeUnknown,
        }
    }
}

ops_core::define_error! {
    /// The error of this crate.
    pub struct Error(ErrorKind);
}

impl Error {
    /// How long the receiver asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::Unavailable { retry_after } => retry_after,
            _ => None,
        }
    }

    /// An error of the operating system about a file or a stream: permanent where only a person
    /// can cure it.
    pub(crate) fn io(what: String, source: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match source.kind() {
            K::PermissionDenied | K::IsADirectory | K::NotADirectory | K::InvalidInput => {
                ErrorKind::Refused
            }
            _ => ErrorKind::Unavailable { retry_after: None },
        };
        Self::new(kind, what).caused_by(source)
    }

    /// The work of a blocking thread that panicked.
    pub(crate) fn panicked(channel: &str, source: tokio::task::JoinError) -> Self {
        Self::new(ErrorKind::Unknown, format!("channel `{channel}` panicked")).caused_by(source)
    }
}
