//! One shape of error for every crate of the family.
//!
//! A crate has one `Error`: a [`kind`](Error::kind) to match on, a message that names the thing,
//! pairs of context, the remedy, and the source. `Display` says this level only; the source stays
//! behind [`source()`](std::error::Error::source) and [`chain`] writes the whole of it.
//!
//! Domain crates get the same shape, with their own kinds, from [`define_error!`](crate::define_error).

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::Report;

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The same call fails again until somebody changes something.
    #[default]
    Permanent,
    /// The same call may succeed later.
    Temporary,
    /// The call may have had its effect: look before trying again.
    OutcomeUnknown,
}

impl Class {
    /// The same, where it is known that the effect is not there.
    pub(crate) fn of_the_old_state(self) -> Self {
        if self == Self::OutcomeUnknown { Self::Temporary } else { self }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
    pub(crate) fn is_permanent(&self) -> bool {
        *self == Self::Permanent
    }
}

/// What every error of the family can say of itself.
pub trait Classify {
    /// Whether trying again can help.
    fn class(&self) -> Class;

    /// What a person does about it, where that is known.
    fn remedy(&self) -> Option<&str> {
        None
    }
}

impl Classify for std::io::Error {
    fn class(&self) -> Class {
        use std::io::ErrorKind as K;
        match self.kind() {
            K::Interrupted | K::WouldBlock | K::ResourceBusy | K::ConnectionRefused => {
                Class::Temporary
            }
            K::TimedOut | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => {
                Class::OutcomeUnknown
            }
            _ => Class::Permanent,
        }
    }
}

/// One reason why something was refused before anything was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refusal {
    /// What stands in the way, with its name.
    pub reason: String,
    /// What a person does about it.
    pub remedy: String,
    /// Whether it may pass by itself, as a lock does that another operation holds.
    #[serde(default, skip_serializing_if = "Class::is_permanent")]
    pub class: Class,
}

impl Refusal {
    /// A reason and its remedy, until which it stays.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), class: Class::Permanent }
    }

    /// That an error stands in the way: all its messages, outermost first, and its class.
    pub fn of<E: StdError + Classify + 'static>(error: &E, remedy: impl Into<String>) -> Self {
        Self::new(chain(error).join(": "), remedy).class_of(error.class())
    }

    /// Says whether it may pass by itself.
    pub fn class_of(mut self, class: Class) -> Self {
        self.class = class.of_the_old_state();
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.remedy)
    }
}

/// The parts that the errors of all crates share. Public for [`define_error!`](crate::define_error).
#[doc(hidden)]
#[derive(Default)]
pub struct Details {
    pub message: String,
    pub context: Vec<(&'static str, String)>,
    pub refusals: Vec<Refusal>,
    pub remedy: Option<String>,
    pub class: Option<Class>,
    pub report: Option<Report>,
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Details {
    /// The message and its context.
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (i, (key, value)) in self.context.iter().enumerate() {
            let (open, close) = if i == 0 { (" (", "") } else { (", ", "") };
            write!(f, "{open}{key}={value}{close}")?;
        }
        if self.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// Everything, a line each.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        for refusal in &self.refusals {
            write!(f, "\n  - {refusal}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  remedy: {remedy}")?;
        }
        if let Some(report) = &self.report {
            write!(f, "\n  operation: {} ({})", report.id, report.outcome.name())?;
            for message in &report.error {
                write!(f, "\n  error: {message}")?;
            }
        }
        for message in self.source.iter().flat_map(|source| chain(&**source)) {
            write!(f, "\n  caused by: {message}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        for (i, refusal) in self.refusals.iter().enumerate() {
            write!(f, "{} {refusal}", if i == 0 { ":" } else { ";" })?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// The messages of an error and of all its sources, outermost first.
pub fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        messages.push(cause.to_string());
        next = cause.source();
    }
    messages
}

/// Defines a crate's `Error` around its own kinds, in the shape of [`ops_core::Error`](crate::Error).
///
/// The kind is an enum of yours that is `Copy` and has `fn class(self) -> Class`. With `from core`
/// and one of its variants, an error of an operation converts by `?` and keeps its report.
///
/// ```
/// use ops_core::Class;
///
/// /// What went wrong.
/// #[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// #[non_exhaustive]
/// pub enum ErrorKind { NotFound, Operation }
/// impl ErrorKind {
///     fn class(self) -> Class { Class::Permanent }
/// }
/// ops_core::define_error! {
///     /// The error of this crate.
///     pub struct Error(ErrorKind), from core as Operation;
/// }
///
/// let error = Error::new(ErrorKind::NotFound, "no such branch").with("branch", "mian").remedy("did you mean `main`?");
/// assert_eq!(error.to_string(), "no such branch (branch=mian); did you mean `main`?");
/// assert_eq!(format!("{error:?}"), "NotFound: no such branch (branch=mian)\n  remedy: did you mean `main`?");
/// ```
#[macro_export]
macro_rules! define_error {
    ($(#[$doc:meta])* pub struct $Error:ident($Kind:ident), from core as $Operation:ident;) => {
        $crate::define_error! { $(#[$doc])* pub struct $Error($Kind); }

        impl From<$crate::Error> for $Error {
            fn from(error: $crate::Error) -> Self {
                Self { kind: $Kind::$Operation, details: error.into_details() }
            }
        }
    };
    ($(#[$doc:meta])* pub struct $Error:ident($Kind:ident);) => {
        $(#[$doc])*
        ///
        /// `Display` tells this level; `Debug` all of them, a line each, for a `main` that returns it.
        pub struct $Error {
            kind: $Kind,
            details: ::std::boxed::Box<$crate::error::Details>,
        }

        impl $Error {
            /// An error of this kind; the message is lower-case and names the thing.
            pub fn new(kind: $Kind, message: impl Into<String>) -> Self {
                let details = $crate::error::Details { message: message.into(), ..Default::default() };
                Self { kind, details: Box::new(details) }
            }

            /// Adds a pair of context, such as a path or a ref.
            pub fn with(mut self, key: &'static str, value: impl ::std::fmt::Display) -> Self {
                self.details.context.push((key, value.to_string()));
                self
            }

            /// Says what a person does about it.
            pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
                self.details.remedy = Some(remedy.into());
                self
            }

            /// Lists every reason why something was refused.
            pub fn refusals(mut self, refusals: impl IntoIterator<Item = $crate::Refusal>) -> Self {
                self.details.refusals.extend(refusals);
                self
            }

            /// Says otherwise than the kind whether trying again can help.
            pub fn class_of(mut self, class: $crate::Class) -> Self {
                self.details.class = Some(class);
                self
            }

            /// Keeps the error that caused this one.
            pub fn caused_by(
                mut self,
                source: impl Into<Box<dyn ::std::error::Error + Send + Sync>>,
            ) -> Self {
                self.details.source = Some(source.into());
                self
            }

            /// Keeps the report of the operation that ended in this error.
            pub fn with_report(mut self, report: $crate::Report) -> Self {
                self.details.report = Some(report);
                self
            }

            /// What went wrong, to match on.
            pub fn kind(&self) -> $Kind {
                self.kind
            }

            /// The report of the operation that ended in this error, if one ran or was refused.
            pub fn report(&self) -> Option<&$crate::Report> {
                self.details.report.as_ref()
            }

            /// Every reason for a refusal; empty if this is none.
            pub fn reasons(&self) -> &[$crate::Refusal] {
                &self.details.refusals
            }

            /// Whether the same call may succeed later.
            pub fn is_retryable(&self) -> bool {
                $crate::Classify::class(self) == $crate::Class::Temporary
            }

            #[doc(hidden)]
            pub fn into_details(self) -> Box<$crate::error::Details> {
                self.details
            }
        }

        impl ::std::fmt::Display for $Error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.details, f)
            }
        }

        impl ::std::fmt::Debug for $Error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{:?}: ", self.kind)?;
                ::std::fmt::Debug::fmt(&self.details, f)
            }
        }

        impl ::std::error::Error for $Error {
            fn source(&self) -> Option<&(dyn ::std::error::Error + 'static)> {
                match &self.details.source {
                    Some(source) => Some(&**source),
                    None => None,
                }
            }
        }

        impl $crate::Classify for $Error {
            fn class(&self) -> $crate::Class {
                self.details.class.unwrap_or_else(|| self.kind.class())
            }

            fn remedy(&self) -> Option<&str> {
                self.details.remedy.as_deref()
            }
        }
    };
}

/// What went wrong in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that was handed over has no meaning here.
    InvalidInput,
    /// A plan cannot be built, or does not fit the world it is to run in.
    Plan,
    /// Inspection or approval refused the operation; nothing was changed. Temporary if every reason
    /// may pass by itself.
    Refused,
    /// The operation failed and everything was put back. Its class is that of what failed.
    RolledBack,
    /// Neither forward nor back without a person; see the remedy.
    NeedsPerson,
    /// Whether the operation committed can only be known by `recover`.
    CommitUnknown,
    /// Another process holds the resource.
    Locked,
    /// A journal cannot be read or written.
    Journal,
    /// A journal is damaged before its last line.
    Corrupt,
    /// Something on disk was written by a newer version, or by another program.
    Foreign,
    /// A child process failed.
    Process,
    /// A deadline passed or a cancellation came.
    Cancelled,
    /// The operating system refused a call.
    Io,
}

impl ErrorKind {
    fn class(self) -> Class {
        match self {
            Self::Locked => Class::Temporary,
            Self::CommitUnknown | Self::Cancelled => Class::OutcomeUnknown,
            _ => Class::Permanent,
        }
    }
}

define_error! {
    /// The error of the engine.
    pub struct Error(ErrorKind);
}

impl Error {
    /// An error of the operating system about a path.
    pub fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let class = source.class();
        Self::new(ErrorKind::Io, format!("cannot {action} `{}`", path.display()))
            .class_of(class)
            .caused_by(source)
    }
}

/// The error of a step: any error that can [`Classify`] itself, so that `?` works in steps.
#[derive(Debug)]
pub struct StepError {
    class: Class,
    remedy: Option<String>,
    source: Box<dyn StdError + Send + Sync>,
}

impl StepError {
    /// A failure that trying again does not cure.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { class: Class::Permanent, remedy: None, source: message.into().into() }
    }

    /// A failure that may pass.
    pub fn temporary(message: impl Into<String>) -> Self {
        Self { class: Class::Temporary, remedy: None, source: message.into().into() }
    }

    /// Says what a person does about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether trying again can help.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What a person does about it, where that is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The messages of the error and of all its sources, outermost first.
    pub fn chain(&self) -> Vec<String> {
        chain(&*self.source)
    }
}

impl<E: StdError + Classify + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        Self {
            class: error.class(),
            remedy: Classify::remedy(&error).map(str::to_owned),
            source: Box::new(error),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}
