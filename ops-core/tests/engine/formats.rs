//! What is on disk stays readable: journals and a report of format 1, as they were first written.
//!
//! A new format gets new files beside these; these are never changed. `WRITE_GOLDEN=1` writes a file
//! that is not there yet.

use std::path::{Path, PathBuf};

use ops_core::operations::{self, Standing, Which};
use ops_core::{ErrorKind, OperationId, Plan, Report, recover};
use serde_json::Value;

use crate::board::{Board, Kind, Luck, abc, approving, set};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The lines as values, without what differs between two runs.
fn lines(text: &str) -> Vec<Value> {
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let text = text.replace(first["record"]["id"].as_str().unwrap(), "the id");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let approval = ["granted_at", "expires_at"].map(|time| format!("/record/approval/{time}"));
    for line in &mut lines {
        for varies in ["/at", "/crc", "/record/pid", &approval[0], &approval[1]] {
            if let Some(value) = line.pointer_mut(varies) {
                *value = Value::from(varies);
            }
        }
    }
    lines
}

#[track_caller]
fn assert_written_as(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let first = std::fs::read_to_string(&path).unwrap();
    let (now, first) = (lines(text), lines(&first));
    assert_eq!(now.len(), first.len(), "{name}");
    for (now, first) in now.iter().zip(&first) {
        assert_eq!(now, first, "{name}: the format has changed: give it a new number");
    }
}

/// A plan with everything that a plan can have.
fn whole(board: &Board) -> Plan {
    Plan::new("whole")
        .version("1a2b3c4".parse().unwrap())
        .fact("from", "0d0d0d0")
        .within(std::time::Duration::from_mins(5))
        .change(board, &set("look", Kind::Reads))
        .unwrap()
        .change(board, &set("keep", Kind::Retained))
        .unwrap()
        .change(board, &set("drop", Kind::Destroys))
        .unwrap()
        .then(abc(board))
}

type BadLuck = &'static [(&'static str, Luck)];

/// What each scenario meets, and how its journal is found.
const SCENARIOS: [(&str, BadLuck, Standing); 3] = [
    ("journal-1-completed.jsonl", &[], Standing::Completed),
    ("journal-1-pending.jsonl", &[("run tidy", Luck::Fails)], Standing::Finishing),
    (
        "journal-1-stuck.jsonl",
        &[("run c", Luck::Fails), ("undo b", Luck::Fails)],
        Standing::NeedsPerson,
    ),
];

#[tokio::test]
async fn journals_are_written_as_they_were() {
    for (name, bad_luck, standing) in SCENARIOS {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new("one");
        for (call, luck) in bad_luck {
            board.luck(call, [*luck; 8]);
        }
        let cx = approving(dir.path()).build();
        let _ = cx.execute(whole(&board), &&board).await;
        let (listed, unreadable) = operations::list(&cx, Which::All).unwrap();
        assert!(unreadable.is_empty());
        assert_eq!(listed[0].standing, standing, "{name}");
        let folder = if listed[0].is_open() { "open" } else { "closed" };
        let path = dir.path().join(format!("journals/{folder}/{}.jsonl", listed[0].id));
        let text = std::fs::read_to_string(path).unwrap();
        assert_written_as(name, text.trim_end_matches('\0'));
    }
}

#[tokio::test]
async fn old_journals_are_read_and_recovered() {
    for (name, _, standing) in SCENARIOS {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(golden(name)).unwrap();
        let first: Value =
            serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        let id: OperationId = first["record"]["id"].as_str().unwrap().parse().unwrap();
        let open = dir.path().join("journals/open");
        std::fs::create_dir_all(&open).unwrap();
        std::fs::write(open.join(format!("{id}.jsonl")), bytes).unwrap();

        let board = Board::new("one");
        let cx = approving(dir.path()).build();
        assert_eq!(operations::show(&cx, id).unwrap().0.standing, standing, "{name}");
        let recovered = recover(&&board, &cx).await.unwrap().reports.remove(0);
        let outcome = if name.contains("stuck") { "rolled_back" } else { "completed" };
        assert_eq!((recovered.outcome.name(), recovered.id), (outcome, id), "{name}");
        assert!(recover(&&board, &cx).await.unwrap().reports.is_empty());
    }
}

#[test]
fn an_old_report_is_read() {
    let text = std::fs::read_to_string(golden("report-1.json")).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(report.outcome.name(), "rolled_back");
    let again: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(again, serde_json::from_str::<Value>(&text).unwrap());
}

#[tokio::test]
async fn a_report_is_written_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    board.luck("run b", [Luck::Fails]);
    let cx = approving(dir.path()).build();
    let error = cx.execute(whole(&board), &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    let path = golden("report-1.json");
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, serde_json::to_string(error.report().unwrap()).unwrap()).unwrap();
    }
    let (now, first) = (
        serde_json::to_value(error.report().unwrap()).unwrap(),
        serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap(),
    );
    assert_eq!(shape(&now), shape(&first), "the format has changed: give it a new number");
}

/// The names and kinds of everything in a value.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        // What the host does not tell, or not in so short a time.
        Value::Null | Value::Bool(_) => "other".into(),
    }
}

#[test]
fn a_digest_stays_the_same() {
    let digest = whole(&Board::new("one")).digest().to_string();
    assert_eq!(digest, "2ab3ecdde80f96f6032364b8e6e0c919541e8782dd49bdb330ab9ad51ab34b17");
}
