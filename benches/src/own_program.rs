//! Our side as a program of its own, so that what it costs is measured as a peer's is: `PROGRAM VERB
//! [ARGUMENTS...]`, of this very executable.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use crate::{Failure, backup, git, proxy};

/// What a program does with its arguments; it answers what it says.
type Act = fn(&[String]) -> Result<String, Failure>;

const PROGRAMS: [(&str, Act); 3] =
    [(git::PROGRAM, git::act), (backup::PROGRAM, backup::act), (proxy::PROGRAM, proxy::act)];

/// This executable as one of our programs.
pub(crate) fn ours<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(program).args(arguments);
    Ok(command)
}

/// Does a program's work, if this process was started as one.
pub fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next()?;
    let (_, act) = PROGRAMS.iter().find(|(known, _)| *known == name)?;
    Some(match act(&arguments.collect::<Vec<_>>()) {
        Ok(said) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    })
}

#[expect(clippy::print_stdout, reason = "it is the program's answer")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "it is the program's complaint")]
fn complain(error: &(dyn std::error::Error + 'static)) {
    eprintln!("{}", ops_core::error::chain(error).join(": "));
}
