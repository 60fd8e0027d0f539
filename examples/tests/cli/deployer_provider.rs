//! `deployer` with a provider's tool: a script that deploys to a small server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::answer::Answer;
use crate::deployer::deployer;

const TOOL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >> calls
[ -e liar ] && exit 0
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
