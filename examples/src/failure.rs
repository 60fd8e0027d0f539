//! How a program fails: what it says, and its exit code.

use std::fmt;

use ops_core::error::chain;
use ops_core::{Class, Classify as _, Refusal, Report};
use serde_json::{Value, json};

/// What the exit code says about the state that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 2: the command line or a configuration makes no sense.
    Usage,
    /// 3: inspection or approval refused; nothing was changed.
    Refused,
    /// 4: it failed, and everything was put back.
    RolledBack,
    /// 5: a person must look.
    NeedsPerson,
}

impl Code {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Refused => 3,
            Self::RolledBack => 4,
            Self::NeedsPerson => 5,
        }
    }
}

/// Why a program ends without what was asked of it.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    class: Class,
    messages: Vec<String>,
    reasons: Vec<Refusal>,
    report: Option<Box<Report>>,
}

impl Failure {
    /// A failure with a message of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let messages = vec![message.into()];
        Self { code, class: Class::Permanent, messages, reasons: Vec::new(), report: None }
    }

    /// The command line or the configuration makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Something is not as it should be.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Code::NeedsPerson, message)
    }

    /// Says what was being done.
    pub fn doing(mut self, what: impl Into<String>) -> Self {
        self.messages.insert(0, what.into());
        self
    }

    /// Says every reason.
    pub fn with_reasons(mut self, reasons: Vec<Refusal>) -> Self {
        self.reasons = reasons;
        self
    }

    /// Every reason, where there are several.
    pub fn reasons(&self) -> &[Refusal] {
        &self.reasons
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The report of the operation that ended in this, if one began or was refused.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    /// The failure as data.
    pub fn to_json(&self) -> Value {
        json!({
            "exit_code": self.code.number(),
            "class": self.class,
            "error": self.messages,
            "reasons": self.reasons,
            "report": self.report,
        })
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(Code::Refused, "");
        failure.messages = chain(error);
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join(": "))
    }
}

impl std::error::Error for Failure {}

/// The errors of the crates have one shape, but each its own kinds: those of a wrong input are the
/// user's, those of damage are for a person, and an error with a report left the state that its outcome
/// says.
macro_rules! from_operations {
    ($($krate:ident: $($usage:ident)|+ $(, damaged: $($damaged:ident)|+)?;)+) => {$(
        impl From<$krate::Error> for Failure {
            fn from(error: $krate::Error) -> Self {
                let mut failure = Self::of(&error);
                failure.code = match error.report().map(|report| report.outcome.exit_code()) {
                    Some(4) => Code::RolledBack,
                    Some(5) => Code::NeedsPerson,
                    Some(_) => Code::Refused,
                    None if matches!(error.kind(), $($krate::ErrorKind::$usage)|+) => Code::Usage,
                    $(None if matches!(error.kind(), $($krate::ErrorKind::$damaged)|+) => {
                        Code::NeedsPerson
                    })?
                    None => Code::Refused,
                };
                failure.class = error.class();
                failure.reasons = error.reasons().to_vec();
                failure.report = error.report().cloned().map(Box::new);
                failure
            }
        }
    )+};
}
from_operations! {
    ops_git: InvalidInput;
    ops_backup: InvalidInput, damaged: Corrupt | Tampered;
    ops_deploy: InvalidConfig;
    ops_logging: InvalidInput;
    ops_alerts: InvalidInput;
}

impl From<ops_core::Error> for Failure {
    fn from(error: ops_core::Error) -> Self {
        use ops_core::ErrorKind as K;
        let mut failure = Self::of(&error);
        failure.code = match error.kind() {
            K::InvalidInput => Code::Usage,
            K::RolledBack => Code::RolledBack,
            K::NeedsPerson | K::CommitUnknown | K::Corrupt => Code::NeedsPerson,
            _ => Code::Refused,
        };
        failure.class = error.class();
        failure.reasons = error.reasons().to_vec();
        failure.report = error.report().cloned().map(Box::new);
        failure
    }
}

/// Errors of other crates reach a program before or after an operation, never in the midst of one.
macro_rules! from_others {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(&error)
            }
        }
    )+};
}
from_others!(
    std::io::Error,
    gix::Error,
    reqwest::Error,
    serde_json::Error,
    sqlx::Error,
    url::ParseError,
    tokio::task::JoinError,
    tokio::time::error::Elapsed
);
