//! The first deployment of `docs/deployer.md`, as a new user would do it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ops_deploy::{Detached, ServiceManager as _};
use tokio_util::sync::CancellationToken;

const DOCUMENT: &str = include_str!("../../../docs/deployer.md");

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
    let (_, first) = DOCUMENT.split_once("```sh\n").unwrap();
    let (script, _) = first.split_once("\n```").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = script.replace("8080", &port.to_string());
    let programs = Path::new(env!("CARGO_BIN_EXE_deployer")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let whole = format!("set -e\ntrap 'kill $(jobs -p)' EXIT\n{script}\n");
    let output = Command::new("bash")
        .args(["-c", &whole])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("OPS_STATE_DIR", dir.path().join("state"))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("build v1, if it is not complete"), "{out}\n{err}");
    assert!(out.contains("in service: v1"), "{out}\n{err}");
    assert!(out.contains("rollback v1"), "{out}\n{err}");
}
