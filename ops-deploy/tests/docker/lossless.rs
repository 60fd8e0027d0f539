//! The programs that show that no request is lost, for some seconds each.

use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (target, numbers) = arguments.split_first().unwrap();
    let output = Command::new(program)
        .arg(target)
        .arg(dir.path().join("arena"))
        .args(numbers)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    said
}

fn kills(target: &str, count: &str) {
    let said = run(env!("CARGO_BIN_EXE_deploy-kill"), &[target, count, "7"]);
    assert!(said.contains(&format!("\n{count} kills: ")), "{said}");
    assert!(said.contains(" a second: 0 failed; "), "{said}");
    for kind in [" fresh", " kept", " slow", " sockets"] {
        assert!(said.contains(kind), "{said}");
    }
}

#[test]
fn a_release_killed_anywhere_under_load_loses_nothing() {
    kills("release", "10");
}

#[test]
fn a_container_killed_anywhere_under_load_loses_nothing() {
    kills("docker", "10");
}

/// Few rounds, and few requests: other tests want the processors, too.
#[test]
fn releases_and_containers_come_and_go_without_a_loss() {
    for target in ["release", "docker"] {
        let said = run(env!("CARGO_BIN_EXE_deploy-under-load"), &[target, "2", "200"]);
        assert!(said.contains(" a second: 0 failed; "), "{said}");
        assert!(said.contains("rollbacks to what was warm: "), "{said}");
    }
}
