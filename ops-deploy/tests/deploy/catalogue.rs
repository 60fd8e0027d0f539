//! `docs/deploy-faults.md` names faults, what becomes of them, and tests that are there.

use std::collections::BTreeSet;
use std::path::Path;

const OUTCOMES: [&str; 5] = ["refused", "went back", "went on", "recovered", "asks a person"];

/// Fault, outcome, file and test of each row.
fn rows(text: &str) -> Vec<[&str; 4]> {
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> =
            line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [fault, outcome, shown] = cells.as_slice() else { return None };
        let (file, test) = shown.split_once(' ').filter(|(file, _)| file.contains(".rs"))?;
        Some([*fault, *outcome, file, test])
    });
    rows.collect()
}

#[test]
fn every_fault_of_the_catalogue_is_shown_by_a_test() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(manifest.join("../docs/deploy-faults.md")).unwrap();
    let rows = rows(&text);
    let mut faults = BTreeSet::new();
    for [fault, outcome, file, test] in &rows {
        assert!(faults.insert(fault), "`{fault}` stands there twice");
        assert!(OUTCOMES.contains(outcome), "`{fault}`: what is `{outcome}`?");
        let source = std::fs::read_to_string(manifest.join("tests").join(file)).unwrap();
        let is_test = source.split("\n#[").any(|item| {
            let is_test = item.starts_with("test]\n") || item.starts_with("tokio::test");
            is_test && item.contains(&format!("fn {test}()"))
        });
        assert!(is_test, "`{fault}`: {file} has no test `{test}`");
    }
    let by_a_person = rows.iter().filter(|row| row[1] == "asks a person").count();
    assert!(rows.len() >= 40, "{} faults", rows.len());
    assert!(by_a_person * 20 <= rows.len(), "{by_a_person} of {} ask a person", rows.len());
    let alone = rows.len() - by_a_person;
    let count =
        format!("{} faults, of which {alone} need no person; none is unbounded.", rows.len());
    assert_eq!(text.trim_end().lines().last(), Some(count.as_str()));
}
