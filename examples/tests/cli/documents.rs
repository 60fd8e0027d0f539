//! The scripts of the documents, as a new user would run them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ops_deploy::{Detached, ServiceManager as _};
use tokio_util::sync::CancellationToken;

const DEPLOYER: &str = include_str!("../../../docs/deployer.md");
const DB_BACKUP: &str = include_str!("../../../docs/db-backup.md");

/// The script that follows a heading.
fn script(document: &str, heading: &str) -> String {
    let (_, chapter) = document.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, script) = chapter.split_once("```sh\n").unwrap();
    script.split_once("\n```").unwrap().0.to_owned()
}

/// Runs a script in a folder; answers what it printed.
fn run(script: &str, dir: &Path, more: &[(&str, &str)]) -> Result<String, String> {
    let programs = Path::new(env!("CARGO_BIN_EXE_deployer")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir)
        .env("PATH", path)
        .env("OPS_STATE_DIR", dir.join("state"))
        .envs(more.iter().copied())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let all = format!("{out}\n{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(all) } else { Err(all) }
}

/// Ends the services, also when the test fails.
struct Ends<'a>(&'a Path);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let run = self.0.join("shop/run");
        for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
            let now = CancellationToken::new();
            now.cancel();
            Detached::new().stop(&entry.path(), Duration::ZERO, &now).unwrap();
        }
    }
}

#[test]
fn the_first_deployment_of_the_document_works_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let _ends = Ends(dir.path());
    let script = script(DEPLOYER, "A first deployment, with nothing but Rust");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = script.replace("8080", &port.to_string());
    let whole = format!("set -e\ntrap 'kill $(jobs -p)' EXIT\n{script}\n");
    let said = run(&whole, dir.path(), &[]).unwrap();
    for part in ["build v1, if it is not complete", "in service: v1", "rollback v1"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_first_backup_comes_back_and_the_nights_that_follow_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let first = script(DB_BACKUP, "A first backup, and a way back");
    let said = run(&format!("set -e\n{first}"), dir.path(), &[]).unwrap();
    assert!(said.contains("1 teapot\nnothing\n"), "{said}");

    let nightly = script(DB_BACKUP, "Every night");
    let nightly = nightly.replace("postgres://backup@db/shop", "cmd:date");
    run(&nightly, dir.path(), &[]).unwrap();
    // Killed in the midst of its backup, which is the first operation.
    let killed = run(&nightly, dir.path(), &[(ops_core::crash::CRASH_AT, "12")]).unwrap_err();
    assert!(killed.contains("nothing was interrupted"), "{killed}");
    let without = nightly.replace("db-backup recover\n", "");
    assert_ne!(without, nightly);
    let blocked = run(&without, dir.path(), &[]).unwrap_err();
    assert!(blocked.contains("is not finished"), "{blocked}");
    let said = run(&nightly, dir.path(), &[]).unwrap();
    assert!(said.contains("backup: rolled_back"), "{said}");
}
