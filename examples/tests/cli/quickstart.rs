use std::path::Path;

use serde_json::Value;

use crate::answer::run;

const QUICKSTART: &str = env!("CARGO_BIN_EXE_quickstart");

/// Processes that this folder is named to.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(dir)).collect()
}

#[test]
fn the_whole_story_is_told_and_leaves_nothing_running() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("played");
    let answer = run(QUICKSTART, "--json --dir", &[&dir]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let told = answer.json;
    assert_eq!(told["ok"], true);
    assert!(told["seconds"].as_f64().unwrap() < 60.0, "{}", told["seconds"]);

    let chapters = told["chapters"].as_array().unwrap();
    let chapter = |name: &str| {
        let found = chapters.iter().find(|chapter| chapter["chapter"] == name);
        &found.unwrap_or_else(|| panic!("no chapter `{name}`"))["told"]
    };
    let first = &chapter("first version")["version"];
    let second = &chapter("update")["version"];
    assert_ne!(first, second);
    assert_eq!(chapter("update")["approved_by"], "quickstart");
    assert_eq!(chapter("broken update")["outcome"]["outcome"], "rolled_back");
    assert_eq!(chapter("broken update")["standing"]["branch"], *second);
    assert!(chapter("broken update")["alert"]["title"].as_str().unwrap().contains("FAILED"));
    assert!(!chapter("restore")["refused"].as_array().unwrap().is_empty());
    assert_eq!(chapter("kill")["outcome"]["outcome"], "rolled_back");
    assert_ne!(chapter("kill")["between"]["traffic"], *second);
    for who in ["branch", "current", "traffic"] {
        assert_eq!(chapter("kill")["standing"][who], *second, "{who}");
    }
    for name in ["update", "broken update", "kill", "update again"] {
        let users = &chapter(name)["users"];
        assert_eq!(users["failed"], 0, "{name}: {users}");
        assert!(users["requests"].as_u64().unwrap() >= 500, "{name}: {users}");
    }
    let outcomes: Vec<_> = told["reports"].as_array().unwrap().iter().collect();
    let count = |name: &str| outcomes.iter().filter(|report| report["outcome"] == name).count();
    assert_eq!(
        (count("completed"), count("rolled_back"), count("refused")),
        (7, 2, 1),
        "{:?}",
        outcomes.iter().map(|report| &report["event"]).collect::<Vec<&Value>>()
    );

    assert!(dir.join("state/reports").exists(), "--dir keeps the files");
    assert_eq!(processes_of(&dir), Vec::<String>::new());

    let again = run(QUICKSTART, "--json --dir", &[&dir]);
    assert_eq!(again.code, 2, "{}", again.err);
    assert!(again.err.contains("is not empty"), "{}", again.err);
}
