//! What a fetch must not leave.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fixture::{command, git};

/// Waits for a condition, and says what was seen last if it does not come.
pub fn eventually(what: &str, mut seen: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        match seen() {
            Ok(()) => return,
            Err(last) if begun.elapsed() > Duration::from_secs(30) => panic!("{what}: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// No thread of a fetch.
pub fn no_thread() {
    eventually("a thread is left", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        match names.filter(|name| name.starts_with("ops-git-fetch")).count() {
            0 => Ok(()),
            count => Err(format!("{count} threads")),
        }
    });
}

/// No process whose command line holds this word.
pub fn no_process(word: &str) {
    eventually("a process is left", || {
        let own = std::process::id().to_string();
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(word) && entry.file_name() != *own).then_some(line)
        });
        found.map_or(Ok(()), Err)
    });
}

/// No half pack, no lock and nothing that git complains of; and these refs.
pub fn sound(repository: &Path, refs: &str) {
    nothing_temporary(repository);
    assert_eq!(git(repository, &["for-each-ref"]), refs, "refs moved");
    git(repository, &["fsck", "--strict", "--no-dangling"]);
}

/// No temporary file below the objects, and no lock.
pub fn nothing_temporary(repository: &Path) {
    let files = std::process::Command::new("find").arg(repository).output().unwrap();
    for path in String::from_utf8(files.stdout).unwrap().lines() {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let ends = |what: &str| Path::new(path).extension().is_some_and(|end| end == what);
        let in_objects = path.contains("/objects/");
        let temporary = name.starts_with("ops-git-incoming")
            || (in_objects && (name.starts_with('.') || name.contains("tmp")))
            || ends("keep");
        let foreign_lock = ends("lock") && name != "ops-git.lock";
        assert!(!temporary && !foreign_lock, "{path} is left");
    }
}

pub fn refs_of(repository: &Path) -> String {
    let output = command(repository, &["for-each-ref"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
