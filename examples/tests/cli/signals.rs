//! What a program does when it is told to end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::answer::run;

const PROGRAM: &str = env!("CARGO_BIN_EXE_db-backup");

fn places(dir: &Path) -> [String; 5] {
    let (store, state) = (format!("file://{}/store", dir.display()), dir.join("state"));
    let state = state.to_str().unwrap().to_owned();
    ["--json".into(), "--store".into(), store, "--state-dir".into(), state]
}

/// A backup of what a script prints, which is under way.
fn backing_up(dir: &Path, script: &str) -> Child {
    std::fs::write(dir.join("print.sh"), format!("touch '{}/begun'; {script}", dir.display()))
        .unwrap();
    let source = format!("cmd:sh {}", dir.join("print.sh").display());
    let child = Command::new(PROGRAM)
        .args(["create", "--yes", "--set", "s", "--source", &source])
        .args(places(dir))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(|| dir.join("begun").exists());
    child
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

fn ended(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn nothing_is_listed(dir: &Path) {
    let listed = run(PROGRAM, "list --set s", &places(dir)).expect(0);
    assert_eq!(listed.json["backups"], serde_json::json!([]));
}

#[test]
fn the_first_signal_takes_the_operation_back() {
    for signal in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let child = backing_up(dir.path(), "echo half; exec sleep 1000");
        send(signal, &child);
        assert_eq!(ended(child), Some(4), "{signal}");
        nothing_is_listed(dir.path());
    }
}
