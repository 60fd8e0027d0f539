//! A process from its start to its end, and what it cost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::Failure;
use crate::rounds::Cost;

/// What this process's children that have ended, and theirs, had of the processors so far.
fn children() -> Result<Duration, Failure> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: TimeVal| -> Result<Duration, Failure> {
        let (seconds, micros) = (u64::try_from(time.tv_sec())?, u64::try_from(time.tv_usec())?);
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    Ok(time(used.user_time())? + time(used.system_time())?)
}

/// Runs it; what it says, and what it cost. Nothing else of this process may end meanwhile.
pub(crate) fn measured(command: &mut Command) -> Result<(String, Cost), Failure> {
    let before = children()?;
    let start = Instant::now();
    let said = output(command)?;
    let wall = start.elapsed();
    let cpu = children()?.saturating_sub(before);
    Ok((said, Cost { wall, cpu: Some(cpu), sizes: Vec::new() }))
}

/// Runs it; what it says.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}: {said}", output.status).into())
}

/// Git in a folder, away from everybody's configuration.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("LC_ALL", "C");
    git
}

/// What git says there.
pub(crate) fn ask(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    Ok(output(&mut git(folder, arguments))?.trim_end().to_owned())
}
