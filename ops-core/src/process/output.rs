//! What a command left behind.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::command::Command;
use crate::error::{Error, ErrorKind};

/// How many lines of the standard error an error shows, and how many bytes of them.
const LAST_LINES: usize = 5;
const LAST_BYTES: usize = 2000;

/// Which of a child's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// What a command left behind; redacted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Output {
    /// The code that it ended with; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output, which need not be UTF-8.
    pub stdout: Vec<u8>,
    /// Its standard error, which need not be UTF-8.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub duration: Duration,
    /// Whether an output was larger than the cap: then a line in its middle tells how many bytes
    /// are left out.
    pub truncated: bool,
    /// Whether something that outlived it still held its output open, and perhaps writes to it:
    /// what came after the first second is not here.
    pub held_open: bool,
}

impl Output {
    /// Whether it ended with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// This output, if the command ended with code 0.
    ///
    /// # Errors
    /// `Process`, permanent, with the program, the code or signal, and the last lines of the
    /// standard error.
    pub fn success(self, command: &Command) -> Result<Self, Error> {
        if self.is_success() {
            return Ok(self);
        }
        let end = match (self.code, self.signal) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}{}", signal_name(signal)),
            (None, None) => "ended in a way that the system does not tell".to_owned(),
        };
        let last = self.last_errors();
        let colon = if last.is_empty() { "" } else { ": " };
        Err(Error::new(ErrorKind::Process, format!("`{}` {end}{colon}{last}", command.name())))
    }

    /// The standard output as a text; what is no UTF-8 is replaced.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// The standard error as a text; what is no UTF-8 is replaced.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// The last lines of the standard error, in one line.
    pub(super) fn last_errors(&self) -> String {
        let text = self.stderr_text();
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ");
        let last: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        last[last.ceil_char_boundary(last.len().saturating_sub(LAST_BYTES))..].to_owned()
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        8 => " (FPE)",
        9 => " (KILL: by a person, or by the kernel when memory ran out)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        14 => " (ALRM)",
        15 => " (TERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: Output, expected: &str) {
        let error = output.success(&Command::new("git").arg("push")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_error_names_program_code_and_last_lines() {
        let ended = |code, signal, stderr: &str| Output {
            code,
            signal,
            stderr: stderr.into(),
            ..Output::default()
        };
        check(ended(Some(1), None, ""), "`git` ended with code 1");
        check(ended(Some(2), None, "a\n\nb\r\nc\n"), "`git` ended with code 2: a / b / c");
        check(
            ended(Some(2), None, "1\n2\n3\n4\n5\n6\u{1b}[0m"),
            "`git` ended with code 2: 2 / 3 / 4 / 5 / 6 [0m",
        );
        check(ended(None, Some(15), "x"), "`git` was ended by signal 15 (TERM): x");
        let long = ended(Some(1), None, &"\u{e9}".repeat(5000)).last_errors();
        assert_eq!(long, "\u{e9}".repeat(1000));
        assert!(ended(Some(0), None, "warning").success(&Command::new("git")).is_ok());
    }
}
