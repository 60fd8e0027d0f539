//! Every place at which an operation, or its recovery, can be killed: old or new, never between.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[path = "programs/shelf.rs"]
#[allow(dead_code, reason = "each program uses a part")]
mod shelf;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ops_core::crash::{CrashTest, State, Summary};
use ops_core::operations::{self, Standing, Which};

fn set_up(dir: &Path) -> Result<(), String> {
    let root = dir.join("shelf");
    fs::create_dir(&root).and_then(|()| shelf::set_up(&root)).map_err(|e| e.to_string())
}

fn files(root: &Path) -> BTreeMap<String, String> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    fs::read_dir(root).unwrap().map(entry).filter(|(name, _)| name != ".lock").collect()
}

fn expected(state: State) -> BTreeMap<String, String> {
    let (prefix, count) = match state {
        State::Old => ("old", "41"),
        State::New => ("new", "42"),
    };
    let mut files: BTreeMap<_, _> =
        (0..shelf::FILES).map(|n| (format!("{prefix}-{n}"), format!("content {n}"))).collect();
    files.insert("count".into(), count.into());
    if state == State::Old {
        files.insert("trash".into(), "trash".into());
    } else {
        files.insert("kept".into(), "kept".into());
    }
    files
}

/// Which state the shelf is in; that the journals agree; and that nothing is left open.
fn check(dir: &Path) -> Result<State, String> {
    let mut found = files(&dir.join("shelf"));
    let cx = shelf::context(&dir.join("state"));
    let (operations, unreadable) = operations::list(&cx, Which::All).map_err(|e| e.to_string())?;
    if !unreadable.is_empty() {
        return Err(format!("unreadable journals: {unreadable:?}"));
    }
    if let Some(open) = operations.iter().find(|operation| operation.is_open()) {
        return Err(format!("operation {} is still open: {:?}", open.id, open.standing));
    }
    let completed = operations.iter().any(|operation| operation.standing == Standing::Completed);
    let state = if completed { State::New } else { State::Old };
    if state == State::Old {
        // What is retained stays, once it was whole.
        if let Some(kept) = found.remove("kept").filter(|kept| kept != "kept") {
            return Err(format!("half of what is retained stayed: {kept:?}"));
        }
    }
    if found != expected(state) {
        return Err(format!("the journals say {state:?}, the shelf holds {found:#?}"));
    }
    Ok(state)
}

fn crash_test() -> CrashTest {
    CrashTest::new()
        .setup(set_up)
        .recovery(|dir| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_crash-recover"));
            command.arg(dir);
            command
        })
        .check(check)
        .recovery_every(3)
}

fn mover(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-move"));
    command.arg(dir);
    command
}

#[test]
fn killed_at_every_place_while_it_goes_forward() {
    let summary = crash_test().operation(mover).run().unwrap_or_else(|e| panic!("{e}"));
    assert_covers(&summary);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

#[test]
fn killed_at_every_place_while_it_goes_back() {
    let failing = |dir: &Path| {
        let mut command = mover(dir);
        command.arg("fail");
        command
    };
    let test = crash_test().operation(failing).operation_may_fail();
    let summary = test.run().unwrap_or_else(|e| panic!("{e}"));
    assert_covers(&summary);
    assert_eq!(summary.new, 0, "what fails never commits: {summary}");
}

fn assert_covers(summary: &Summary) {
    for place in [
        "journal: before a record",
        "journal: half a line",
        "journal: after a record",
        "half a file",
        "before the rename",
        "in both places",
    ] {
        assert!(summary.places.contains_key(place), "never killed at `{place}`: {summary:?}");
    }
    assert!(summary.kills > 100 && summary.recovery_kills > 500, "{summary}");
}
