//! Every place at which a backup, a restore or their recovery can be killed: old or new.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ops_backup::{Depth, Vault, open_store};
use ops_core::crash::{CrashTest, State};

fn program(dir: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-backup"));
    command.arg(dir).arg(verb);
    command
}

fn live(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
    };
    fs::read_dir(dir.join("live")).unwrap().map(entry).collect()
}

/// The files without the shared-memory index, which every reader of a database rebuilds.
fn lasting(mut files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    files.retain(|name, _| !name.ends_with("-shm"));
    files
}

fn prepare(dir: &Path) -> Result<(), String> {
    let status = program(dir, "prepare").status().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("prepare: {status}"));
    }
    let before = dir.join("before");
    fs::create_dir(&before).unwrap();
    for (name, bytes) in live(dir) {
        fs::write(before.join(name), bytes).unwrap();
    }
    Ok(())
}

fn before(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
    };
    lasting(fs::read_dir(dir.join("before")).unwrap().map(entry).collect())
}

fn restored(dir: &Path) -> Result<State, String> {
    let (found, before) = (lasting(live(dir)), before(dir));
    if !before.contains_key("app.db-wal") {
        return Err("the test needs a write-ahead log".into());
    }
    if found == before {
        return Ok(State::Old);
    }
    let names: Vec<_> = found.keys().cloned().collect();
    let old = |suffix: &str| {
        found.iter().find(|(n, _)| n.contains(".before-") && n.ends_with(suffix)).map(|(_, b)| b)
    };
    let kept = old("-wal") == before.get("app.db-wal")
        && found.iter().any(|(n, b)| n.contains(".before-") && Some(b) == before.get("app.db"));
    let clean = !found.contains_key("app.db-wal") && found["app.db"] != before["app.db"];
    if kept && clean && names.len() == 3 {
        return Ok(State::New);
    }
    Err(format!("between: {names:?}"))
}

fn backed_up(dir: &Path) -> Result<State, String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("file://{}", dir.join("store").display());
    let (listed, whole) = runtime.block_on(async {
        let vault = Vault::open(open_store(&url).unwrap(), "crash-test").await.unwrap();
        let listed = vault.list("second").await.unwrap();
        let mut whole = true;
        for id in &listed {
            whole &= vault.verify("second", *id, Depth::Full).await.unwrap().is_whole();
        }
        (listed.len(), whole)
    });
    if !whole {
        return Err("a torn backup is listed".into());
    }
    if live(dir).keys().any(|name| name.contains(".backup-")) {
        return Err(format!("a copy was left: {:?}", live(dir).keys()));
    }
    Ok(if listed == 0 { State::Old } else { State::New })
}

#[test]
fn a_restore_killed_at_every_place_is_old_or_new() {
    let summary = CrashTest::new()
        .setup(prepare)
        .operation(|dir| program(dir, "restore"))
        .recovery(|dir| program(dir, "recover"))
        .check(restored)
        .recovery_every(5)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.kills > 8, "{summary}");
}

#[test]
fn a_backup_killed_at_every_place_is_whole_or_not_listed() {
    let summary = CrashTest::new()
        .setup(prepare)
        .operation(|dir| program(dir, "back-up"))
        .recovery(|dir| program(dir, "recover"))
        .check(backed_up)
        .recovery_every(7)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("before the manifest"), "{summary:?}");
}
