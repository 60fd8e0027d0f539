//! What `ops-bench` answers to the shell: 0 fine, 1 regression, 2 no comparison possible.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-bench");

const STORED: &str = r#"[
  {"name":"a/ops","unit":"ns","value":100.0,"range":"90 .. 110","extra":"x"},
  {"name":"a/peer: p","unit":"ns","value":50.0,"range":"40 .. 60"},
  {"name":"a/ops : peer: p","unit":"ratio","value":2.0}
]"#;

/// The stored result with other values.
fn result(ops: &str, peer: &str, ratio: &str) -> String {
    STORED.replace("100.0", ops).replace("50.0", peer).replace("2.0", ratio)
}

/// Exit code, standard output and standard error.
fn compare(stored: &str, new: &str, more: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("stored.json", stored), ("new.json", new)] {
        // This one stands for a file that is not there.
        if text != "ABSENT" {
            fs::write(dir.path().join(name), text).unwrap();
        }
    }
    let mut command = Command::new(PROGRAM);
    command.args(["compare", "stored.json", "new.json"]).args(more);
    let output = command.current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn results_that_can_be_compared() {
    let own = |name: &str| format!(r#"[{{"name":"{name}","unit":"ratio","value":2.0}}]"#);
    let with_new = STORED
        .replace("\n]", ",\n{\"name\":\"b/ops : peer: q\",\"unit\":\"ratio\",\"value\":9.0}]");
    let limit = |limit| ["--max-regression", limit];
    for (case, stored, new, more, code, says) in [
        ("the same", STORED, STORED, &[][..], 0, "1.00 * a/ops : peer: p"),
        ("at the limit", STORED, &result("100", "50", "2.5"), &[], 0, "1.25 *"),
        ("past the limit", STORED, &result("100", "50", "2.51"), &[], 1, "TOO SLOW"),
        ("a wider limit", STORED, &result("100", "50", "2.9"), &limit("1.5"), 0, "1.45 *"),
        ("a closer limit", STORED, &result("100", "50", "2.3"), &limit("1.1"), 1, "TOO SLOW"),
        (
            "the older spelling",
            STORED,
            &result("1", "1", "2.3"),
            &["--max-ratio", "1.1"],
            1,
            "SLOW",
        ),
        ("a slower machine", STORED, &result("900", "450", "2"), &[], 0, "9.00   a/ops"),
        ("times are wanted", STORED, &result("900", "450", "2"), &["--times"], 1, "9.00 * a/ops"),
        ("a slower peer", STORED, &result("100", "90", "1.1"), &["--times"], 0, "1.80   a/peer"),
        ("much better", STORED, &result("1", "50", "0.02"), &[], 0, "0.01 *"),
        ("a new one", STORED, &with_new, &[], 0, "new * b/ops : peer: q"),
        ("one is gone", &with_new, STORED, &[], 1, "GONE * b/ops : peer: q"),
        ("nothing in common", STORED, &own("z/ops : peer: z"), &[], 1, "GONE * a/ops"),
    ] {
        let (is, out, err) = compare(stored, new, more);
        assert_eq!(is, code, "{case}: {out}{err}");
        assert!(out.contains(says), "{case}: {out}{err}");
    }
}

#[test]
fn what_is_no_result_is_refused_by_name() {
    let twice = STORED.replace("a/peer: p", "a/ops");
    let times_only = r#"[{"name":"bench_x","unit":"ns/iter","value":3,"range":"± 1"}]"#;
    let microseconds = STORED.replace("\"ratio\"", "\"percent\"");
    for (case, bad, says) in [
        ("absent", "ABSENT", "cannot read"),
        ("empty file", "", "holds no results"),
        ("empty list", "[]", "there is no benchmark in it"),
        ("cut off", &STORED[..60], "holds no results"),
        ("no JSON", "bench: 12 ns/iter", "holds no results"),
        ("an object", r#"{"version":1,"benchmarks":[]}"#, "holds no results"),
        ("other objects", r#"[{"id":"x","mean":1.0}]"#, "missing field `name`"),
        ("NaN", &result("100", "50", "NaN"), "holds no results"),
        ("NaN as serialised", &result("100", "50", "null"), "holds no results"),
        ("infinite", &result("100", "50", "1e999"), "holds no results"),
        ("a text", &result("100", "50", "\"2.0\""), "holds no results"),
        ("zero", &result("100", "50", "0.0"), "`a/ops : peer: p` has the value 0"),
        ("zero of a peer", &result("100", "0", "2"), "`a/peer: p` has the value 0"),
        ("below zero", &result("-1", "50", "2"), "`a/ops` has the value -1"),
        ("twice", &twice, "`a/ops` is there twice"),
    ] {
        for (stored, new, file) in [(bad, STORED, "stored.json"), (STORED, bad, "new.json")] {
            let (is, out, err) = compare(stored, new, &[]);
            assert_eq!(is, 2, "{case} as {file}: {out}{err}");
            assert!(err.contains(says) && err.contains(file), "{case} as {file}: {err}");
            assert_eq!(out, "", "{case} as {file}");
        }
    }
    let (is, _, err) = compare(times_only, STORED, &[]);
    assert!(is == 2 && err.contains("no ratio to a peer"), "{is} {err}");
    let (is, _, err) = compare(STORED, &microseconds, &[]);
    assert!(is == 2 && err.contains("was in ratio, and is in percent now"), "{is} {err}");
    for limit in ["0.5", "NaN", "inf", "-1", "much"] {
        let (is, _, err) = compare(STORED, STORED, &[&format!("--max-regression={limit}")]);
        assert!(is == 2 && err.contains("a factor of 1 or more"), "{limit}: {is} {err}");
    }
}

/// The result of a run, with only these programs to be found.
fn run_with(programs: &[&str]) -> (Option<i32>, String, bool) {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in programs {
        // It is looked for, and never started, since another one is missing.
        fs::write(bin.join(name), "").unwrap();
    }
    let output = Command::new(PROGRAM)
        .args(["run", "--quick", "--output", "out.json"])
        .env("PATH", &bin)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said, dir.path().join("out.json").exists())
}

#[test]
fn a_missing_peer_fails_and_names_the_package() {
    let (code, said, written) = run_with(&[]);
    assert_eq!((code, written), (Some(2), false), "{said}");
    for part in ["`sqlite3` (Debian package `sqlite3`)", "`zstd` (Debian package `zstd`)"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains("`sha256sum` (Debian package `coreutils`)"), "{said}");
    let (code, said, written) = run_with(&["sqlite3", "sha256sum", "tee"]);
    assert_eq!((code, written), (Some(2), false), "{said}");
    assert!(said.contains("`zstd`") && !said.contains("`sqlite3`"), "{said}");
}

#[test]
fn a_stored_result_is_read_before_anything_is_measured() {
    let output = Command::new(PROGRAM).args(["run", "--base", "/nowhere.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read /nowhere.json"));
}
