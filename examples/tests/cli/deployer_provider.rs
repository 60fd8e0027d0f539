//! `deployer` with a provider's tool: a script that deploys to a small server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::deployer::deployer;

const TOOL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >> calls
[ -e liar ] && exit 0
[ -e "hangs-$1" ] && [ "$3" != --check ] && { echo "$2" > live; sleep 60; }
[ "$3" = --check ] || echo "$2" > live
"#;

struct Cloud {
    dir: tempfile::TempDir,
}

/// Answers as the version in a file, for as long as the test's process lives.
fn serve(live: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let version = std::fs::read_to_string(&live).unwrap_or_default();
            let body = format!(r#"{{"build":{{"version":"{}"}}}}"#, version.trim());
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n");
            let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
        }
    });
    url
}

impl Cloud {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, TOOL).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let url = serve(dir.path().join("live"));
        let config = r#"
            [provider]
            name = "shop"
            state = "DIR"
            public_url = "URL"
            deploy = ["DIR/tool", "publish", "{version}"]
            rollback = ["DIR/tool", "promote", "{version}"]
            dry_run = ["--check"]
            [health]
            json_field = "/build/version"
            [gate]
            consecutive = 2
            deadline_seconds = 2
        "#;
        let config = config.replace("DIR", dir.path().to_str().unwrap()).replace("URL", &url);
        std::fs::write(dir.path().join("site.toml"), config).unwrap();
        Self { dir }
    }

    fn deployer(&self, words: &str) -> Answer {
        deployer(words, &self.dir.path().join("site.toml"), self.dir.path())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(self.dir.path()).join(name)).unwrap_or_default()
    }
}

#[test]
fn a_tool_deploys_and_goes_back_and_is_not_believed() {
    let cloud = Cloud::new();
    cloud.deployer("plan v1").expect(0);
    assert_eq!(cloud.read("calls"), "", "a plan calls nobody");
    cloud.deployer("deploy v1 --yes").expect(0);
    assert_eq!(cloud.read("calls"), "publish v1 --check\npublish v1\n");
    cloud.deployer("deploy v2 --yes").expect(0);
    assert_eq!(cloud.deployer("status").expect(0).json["current"], "v2");

    std::fs::write(cloud.dir.path().join("liar"), "").unwrap();
    let failed = cloud.deployer("deploy v3 --yes").expect(4);
    assert!(failed.err.contains("the tool has ended, but v3 is not in service"), "{}", failed.err);
    std::fs::remove_file(cloud.dir.path().join("liar")).unwrap();

    cloud.deployer("rollback --yes").expect(0);
    assert_eq!(cloud.read("live"), "v1\n");
    assert!(cloud.read("calls").ends_with("promote v1 --check\npromote v1\n"));
    let versions = cloud.deployer("versions").expect(0).json["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 2, "{versions}");
    cloud.deployer("cleanup").expect(2);
}

/// A deployment whose tool hangs once it has deployed, and its answer later.
fn hanging(cloud: &Cloud) -> Child {
    std::fs::write(cloud.dir.path().join("hangs-publish"), "").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_deployer"))
        .args(["deploy", "v2", "--yes", "--json", "--config"])
        .arg(cloud.dir.path().join("site.toml"))
        .arg("--state-dir")
        .arg(cloud.dir.path().join("state"))
        .env_remove("OPS_STATE_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the tool is called", || cloud.read("calls").ends_with("\npublish v2\n"));
    child
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, to: &Child) {
    let sent = Command::new("kill").args([signal, &to.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_first_signal_goes_back() {
    for signal in ["-INT", "-TERM"] {
        let cloud = Cloud::new();
        cloud.deployer("deploy v1 --yes").expect(0);
        let child = hanging(&cloud);
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(4), "{out}\n{err}");
        assert!(out.contains("rolled_back"), "{out}");
        assert_eq!(cloud.read("live"), "v1\n");
        assert!(cloud.read("calls").ends_with("promote v1\n"), "{}", cloud.read("calls"));
        cloud.deployer("recover").expect(0);
    }
}

#[test]
fn a_second_signal_stops_at_once_and_the_rest_is_recovered() {
    let cloud = Cloud::new();
    cloud.deployer("deploy v1 --yes").expect(0);
    std::fs::write(cloud.dir.path().join("hangs-promote"), "").unwrap();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let child = hanging(&cloud);
        send("-INT", &child);
        // The way back hangs, too.
        until("the way back is taken", || cloud.read("calls").ends_with("\npromote v1\n"));
        let begun = Instant::now();
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "at once");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{err}");

        std::fs::remove_file(cloud.dir.path().join("hangs-promote")).unwrap();
        let recovered = cloud.deployer("recover").expect(0).json;
        assert_eq!(recovered["recovered"][0]["outcome"], "rolled_back", "{recovered}");
        assert_eq!(cloud.read("live"), "v1\n");
        std::fs::remove_file(cloud.dir.path().join("hangs-publish")).unwrap();
        std::fs::write(cloud.dir.path().join("hangs-promote"), "").unwrap();
    }
}

#[test]
fn who_looks_or_goes_back_in_an_emergency_needs_no_secrets() {
    let cloud = Cloud::new();
    for version in ["v1", "v2"] {
        cloud.deployer(&format!("deploy {version} --yes")).expect(0);
    }
    let path = cloud.dir.path().join("site.toml");
    let hook = "[[hook]]\nwhen = \"after_commit\"\nname = \"tell\"\ncommand = [\"true\"]\n\
                secrets = [\"OPS_TEST_NO_SUCH\"]\n";
    let text = std::fs::read_to_string(&path).unwrap() + hook;
    std::fs::write(&path, text).unwrap();
    for verb in ["status", "history", "lock", "recover"] {
        cloud.deployer(verb).expect(0);
    }
    let refused = cloud.deployer("rollback --yes").expect(2);
    assert!(refused.err.contains("`OPS_TEST_NO_SUCH`"), "{}", refused.err);
    cloud.deployer("emergency --yes").expect(0);
    assert_eq!(cloud.read("live"), "v1\n");
}
