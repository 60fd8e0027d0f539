//! `deployer` with containers on a real engine. The image is one static program, imported.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::answer::Answer;
use crate::deployer::deployer;

const SOURCE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../ops-deploy/tests/programs/contained.rs");

fn engine() -> String {
    std::env::var("OPS_TEST_DOCKER_HOST")
        .expect("OPS_TEST_DOCKER_HOST is missing: run the tests by scripts/with-services")
}

/// What the engine says to this.
fn docker<const N: usize>(arguments: [&str; N]) -> String {
    let output = Command::new("docker")
        .args(["--host", &engine()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Site {
    dir: tempfile::TempDir,
    application: String,
    port: u16,
}

impl Drop for Site {
    fn drop(&mut self) {
        let clear = format!(
            "docker --host {0} ps -aq --filter label=ops-deploy.application={1} \
             | xargs -r docker --host {0} rm -f; \
             docker --host {0} images -q '{1}/*' | sort -u | xargs -r docker --host {0} rmi -f",
            engine(),
            self.application
        );
        let _ = Command::new("sh").args(["-c", &clear]).stdout(Stdio::null()).status();
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = ops_core::OperationId::generate().to_string().to_lowercase();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().min(65_000);
        let site = Self { dir, application: format!("e{id}"), port };
        let program = site.path("serve");
        let compiled = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
            .arg(&program)
            .arg(SOURCE)
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let folder = site.dir.path().to_str().unwrap();
        let archive = site.path("image.tar");
        let packed =
            Command::new("tar").args(["-C", folder, "-cf"]).arg(&archive).arg("serve").status();
        assert!(packed.unwrap().success());
        for (version, mode) in
            [("a000001", "healthy"), ("a000002", "healthy"), ("b000001", "wrong")]
        {
            let (version_of, mode) =
                (format!("ENV BUILD_VERSION={version}"), format!("ENV MODE={mode}"));
            let tag = format!("{}/web:{version}", site.application);
            let archive = archive.to_str().unwrap();
            docker([
                "import",
                "-c",
                "CMD [\"/serve\"]",
                "-c",
                &version_of,
                "-c",
                &mode,
                archive,
                &tag,
            ]);
        }
        let config = r#"
            [docker]
            application = "APP"
            engines = ["ENGINE"]
            state = "DIR"
            keep = 0
            [[docker.service]]
            name = "web"
            image = "APP/web"
            command = ["/serve", "{port}"]
            ports = [PORT, LAST]
            stop_signal = "SIGKILL"
            secrets = { key = "DIR/serve" }
            [gate]
            consecutive = 2
            deadline_seconds = 3
            [bake]
            lasts_seconds = 1
            interval_milliseconds = 100
            [[hook]]
            when = "after_switch"
            name = "tell"
            command = ["sh", "-c", "echo told {version} >>DIR/told"]
            [migration]
            command = ["true"]
            rehearsal = ["echo", "ALTER TABLE a ADD COLUMN b int;"]
            rehearsal_prints_sql = true
            [preflight]
            docker = "20.10"
            programs = ["sh"]
        "#;
        let config = config
            .replace("APP", &site.application)
            .replace("ENGINE", &engine())
            .replace("DIR", folder)
            .replace("PORT", &site.port.to_string())
            .replace("LAST", &(site.port + 9).to_string());
        std::fs::write(site.path("site.toml"), config).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    fn deployer(&self, words: &str) -> Answer {
        deployer(words, &self.path("site.toml"), self.dir.path())
    }
}

#[test]
fn containers_come_into_service_and_go_back() {
    let site = Site::new();
    let planned = site.deployer("plan a000001").expect(0).json;
    assert_eq!(planned["plan"]["version"], "a000001");
    let unknown = site.deployer("deploy a000009 --yes").expect(3);
    assert!(unknown.err.contains("complete versions: "), "{}", unknown.err);
    site.deployer("deploy a000001 --yes").expect(0);
    site.deployer("deploy a000002 --yes").expect(0);
    let status = site.deployer("status").expect(0).json;
    assert_eq!(status["current"], "a000002", "{status}");
    assert_eq!(status["running"].as_array().unwrap().len(), 1, "{status}");
    let failed = site.deployer("deploy b000001 --yes").expect(4);
    assert!(failed.err.contains("b000001 does not pass"), "{}", failed.err);
    site.deployer("rollback --yes").expect(0);
    assert_eq!(site.deployer("status").expect(0).json["current"], "a000001");
    let kept = site.deployer("cleanup --dry-run").expect(0).json;
    assert_eq!(kept["plan"]["facts"]["keep a000001"], "it is in service", "{kept}");
    site.deployer("recover").expect(0);
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert_eq!(told, "told a000001\ntold a000002\ntold a000001\n");
    let known = site.deployer("list").expect(0).json;
    assert_eq!(known["known"].as_array().unwrap().len(), 3, "{known}");
    assert_eq!(site.deployer("lock").expect(0).json["holder"], serde_json::Value::Null);
}
