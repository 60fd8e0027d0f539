//! The short programs in `examples/examples`, which cargo builds beside these tests.

use std::path::Path;

use super::answer::run;

fn program(name: &str) -> String {
    let beside = Path::new(env!("CARGO_BIN_EXE_quickstart")).parent().unwrap();
    beside.join("examples").join(name).display().to_string()
}

#[test]
fn a_change_behind_a_backup_completes() {
    let answer = run::<&str>(&program("guard_with_backup"), "", &[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.out.contains("replace the settings `colour = blue`"), "{}", answer.out);
    assert!(answer.out.ends_with("backup+repaint: completed\n"), "{}", answer.out);
}

#[test]
fn a_log_is_written_where_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let answer = run(&program("logging_and_alerts"), "", &[dir.path()]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let log = std::fs::read_dir(dir.path().join("log")).unwrap();
    let texts: String = log
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(texts.contains("ready") && texts.contains("environment=production"), "{texts}");
}

#[test]
fn a_service_that_updates_itself_says_what_it_needs() {
    let answer = run::<&str>(&program("embed_update"), "", &[]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("give the repository's URL and the folder"), "{}", answer.err);
}
