//! The crash harness, on copies of repositories.

use std::path::{Path, PathBuf};
use std::process::Command;

use ops_core::crash::{CrashTest, Summary};

use crate::fixture::command;

/// Runs `git-crash-program` with this word on a copy of `start`, which has that name, kills it at
/// every place, and recovers the copy with that word.
pub fn killed(
    (start, name): (PathBuf, &'static str),
    what: &'static str,
    recovery: &'static str,
) -> CrashTest {
    CrashTest::new()
        .setup(move |dir| {
            let done = Command::new("cp").arg("-a").arg(&start).arg(dir.join(name)).status();
            done.map_err(|e| e.to_string())?.success().then_some(()).ok_or("cp failed".to_owned())
        })
        .operation(program(what))
        .recovery(program(recovery))
}

fn program(what: &'static str) -> impl Fn(&Path) -> Command {
    move |dir| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_git-crash-program"));
        command.arg(dir).arg(what);
        command
    }
}

/// What git's own check says against a repository.
pub fn fsck(repository: &Path, how: &[&str]) -> Result<(), String> {
    let mut words = vec!["fsck"];
    words.extend(how);
    let output = command(repository, &words).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

pub fn assert_covers(summary: &Summary, places: &[&str]) {
    for place in places {
        assert!(
            summary.places.keys().any(|name| name.contains(place)),
            "never killed at `{place}`: {summary:?}"
        );
    }
}
