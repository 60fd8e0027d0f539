//! Every place at which a backup, a restore or their recovery can be killed: old or new.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(feature = "qdrant")]
#[path = "../qdrant/server.rs"]
mod qdrant_server;

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

/// How many backups of a set are listed, all of which must be whole.
fn listed(dir: &Path, set: &str) -> Result<usize, String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("file://{}", dir.join("store").display());
    let (listed, whole) = runtime.block_on(async {
        let vault = Vault::open(open_store(&url).unwrap(), "crash-test").await.unwrap();
        let listed = vault.list(set).await.unwrap();
        let mut whole = true;
        for id in &listed {
            whole &= vault.verify(set, *id, Depth::Full).await.unwrap().is_whole();
        }
        (listed.len(), whole)
    });
    if whole { Ok(listed) } else { Err("a torn backup is listed".into()) }
}

fn backed_up(dir: &Path) -> Result<State, String> {
    let listed = listed(dir, "second")?;
    if live(dir).keys().any(|name| name.contains(".backup-")) {
        return Err(format!("a copy was left: {:?}", live(dir).keys()));
    }
    nothing_left(dir)?;
    Ok(if listed == 0 { State::Old } else { State::New })
}

fn prepare_prune(dir: &Path) -> Result<(), String> {
    let status = program(dir, "prepare-prune").status().map_err(|e| e.to_string())?;
    status.success().then_some(()).ok_or_else(|| format!("prepare-prune: {status}"))
}

/// Each listed backup is whole; and what is in the store belongs to one that is listed.
fn nothing_left(dir: &Path) -> Result<usize, String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("file://{}", dir.join("store").display());
    let (mut known, mut needed) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let vault = Vault::open_url(&url).await.unwrap();
        for set in ["first", "second"] {
            for id in vault.list(set).await.unwrap() {
                if !vault.verify(set, id, Depth::Full).await.unwrap().is_whole() {
                    return Err(format!("backup {id} is listed and not whole"));
                }
                let manifest = vault.show(set, id).await.unwrap();
                let units = manifest.sources.into_iter().flat_map(|source| source.units);
                needed.extend(units.flat_map(|unit| unit.chunks).map(|chunk| chunk.key));
                known.push(id.to_string());
            }
        }
        Ok(())
    })?;
    for entry in walkdir::WalkDir::new(dir.join("store")) {
        let entry = entry.unwrap();
        let name = entry.path().to_str().unwrap();
        let part = ["/chunks/", "/sets/", "/begun/"].iter().any(|part| name.contains(part));
        let used = known.iter().any(|id| name.contains(id) && !name.contains("/begun/"))
            || needed.iter().any(|key| name.ends_with(key));
        if entry.file_type().is_file() && part && !used {
            return Err(format!("`{name}` is left"));
        }
    }
    Ok(known.len())
}

fn pruned(dir: &Path) -> Result<State, String> {
    match nothing_left(dir)? {
        3 => Ok(State::Old),
        1 => Ok(State::New),
        other => Err(format!("{other} backups are listed")),
    }
}

#[test]
fn a_prune_killed_at_every_place_took_all_or_none_and_leaves_nothing_behind() {
    let summary = CrashTest::new()
        .setup(prepare_prune)
        .operation(|dir| program(dir, "prune"))
        .recovery(|dir| program(dir, "recover"))
        .check(pruned)
        .recovery_every(29)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    for place in ["buried a backup", "deleted manifests", "deleted an object", "deleted chunks"] {
        assert!(summary.places.contains_key(place), "{place}: {summary:?}");
    }
}

fn drilled(dir: &Path) -> Result<State, String> {
    let scratch = fs::read_dir(dir.join("state/scratch")).map_or(0, Iterator::count);
    if scratch > 0 {
        return Err("scratch is left".to_owned());
    }
    let attested = walkdir::WalkDir::new(dir.join("store"))
        .into_iter()
        .any(|e| e.unwrap().path().to_str().unwrap().ends_with("-drill.json"));
    nothing_left(dir)?;
    Ok(if attested { State::New } else { State::Old })
}

#[test]
fn a_drill_killed_at_every_place_leaves_no_scratch() {
    let summary = CrashTest::new()
        .setup(prepare_prune)
        .operation(|dir| program(dir, "drill"))
        .recovery(|dir| program(dir, "recover"))
        .check(drilled)
        .recovery_every(29)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("restored into scratch"), "{summary:?}");
}

#[test]
fn what_a_killed_backup_left_without_a_journal_is_swept_by_the_next_prune() {
    let summary = CrashTest::new()
        .setup(prepare)
        .operation(|dir| program(dir, "back-up"))
        .recovery(|dir| program(dir, "lose-journal"))
        .check(|dir| match nothing_left(dir)? {
            1 => Ok(State::Old),
            2 => Ok(State::New),
            other => Err(format!("{other} backups are listed")),
        })
        .recovery_every(31)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("after a chunk"), "{summary:?}");
}

#[test]
fn a_restore_killed_at_every_place_is_old_or_new() {
    let summary = CrashTest::new()
        .setup(prepare)
        .operation(|dir| program(dir, "restore"))
        .recovery(|dir| program(dir, "recover"))
        .check(restored)
        .recovery_every(19)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.kills > 8, "{summary}");
}

/// What was in place before the restore is in place again, and what was restored is kept.
fn undone(dir: &Path) -> Result<State, String> {
    if let Ok(State::New) = restored(dir) {
        return Ok(State::Old);
    }
    let (found, before) = (lasting(live(dir)), before(dir));
    let (mut live, mut kept) = (found.clone(), found);
    live.retain(|name, _| !name.contains(".before-"));
    kept.retain(|name, _| name.contains(".before-"));
    let names: Vec<_> = kept.keys().collect();
    match (live == before, kept.len()) {
        (true, 1) if kept.values().all(|bytes| Some(bytes) != before.get("app.db")) => {
            Ok(State::New)
        }
        _ => Err(format!("between: {:?} {names:?}", live.keys())),
    }
}

#[test]
fn an_undone_restore_killed_at_every_place_is_as_restored_or_as_before() {
    let summary = CrashTest::new()
        .setup(|dir| {
            prepare(dir)?;
            let status = program(dir, "restore").status().map_err(|e| e.to_string())?;
            status.success().then_some(()).ok_or_else(|| format!("restore: {status}"))
        })
        .operation(|dir| program(dir, "undo-restore"))
        .recovery(|dir| program(dir, "recover"))
        .check(undone)
        .recovery_every(29)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    for place in ["exchanged with the kept", "moved a side file"] {
        assert!(summary.places.contains_key(place), "{place}: {summary:?}");
    }
}

#[test]
fn a_backup_killed_at_every_place_is_whole_or_not_listed() {
    let summary = CrashTest::new()
        .setup(prepare)
        .operation(|dir| program(dir, "back-up"))
        .recovery(|dir| program(dir, "recover"))
        .check(backed_up)
        .recovery_every(23)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("before the manifest"), "{summary:?}");
}

#[test]
fn a_full_disk_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("small")).unwrap();
    // In namespaces of its own, where anybody may mount.
    let script = "mount -t tmpfs -o size=200k tmpfs \"$1/small\" && exec \"$2\" \"$1\" full-disk";
    let ended = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(env!("CARGO_BIN_EXE_crash-backup"))
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
