//! Why a command was ended before its time, and how that is told.

use super::command::Command;
use super::{Output, RunContext};
use crate::error::{Class, Error, ErrorKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Deadline,
    Cancelled,
}

impl Stop {
    /// Waits for the first reason to end the command.
    pub(super) async fn of(command: &Command, cx: &RunContext) -> Self {
        tokio::select! {
            () = cx.cancellation.cancelled() => Self::Cancelled,
            () = tokio::time::sleep(command.deadline) => Self::Deadline,
        }
    }

    /// The error, when the command had begun.
    pub(super) fn error(self, command: &Command, output: &Output) -> Error {
        let why = match self {
            Self::Deadline => format!("did not end within {:?} and was ended", command.deadline),
            Self::Cancelled => "was ended by a cancellation".to_owned(),
        };
        let last = output.last_errors();
        let colon = if last.is_empty() { "" } else { ": " };
        Error::new(ErrorKind::Process, format!("`{}` {why}{colon}{last}", command.name()))
            .class_of(Class::OutcomeUnknown)
            .remedy("look whether it had its effect before it is run again")
    }

    /// The error of a command that a cancellation came before.
    pub(super) fn before(command: &Command) -> Error {
        let message = format!("`{}` was not started: a cancellation came before", command.name());
        Error::new(ErrorKind::Process, message).class_of(Class::Temporary)
    }
}
