use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ops_deploy::{Detached, ProxyClient, ServiceManager as _};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, run};

/// A site with three releases, the third of them broken, behind a proxy of its own process.
struct Site {
    dir: tempfile::TempDir,
    proxy: Child,
    runtime: Runtime,
    public: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
        let run = self.dir.path().join("site/run");
        for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
            let (now, folder) = (CancellationToken::new(), entry.path());
            now.cancel();
            Detached::new().stop(&folder, Duration::ZERO, &now).unwrap();
        }
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (version, broken) in [("v1", false), ("v2", false), ("v3", true)] {
            let release = dir.path().join("site/releases").join(version);
            std::fs::create_dir_all(&release).unwrap();
            let settings = format!("title = \"Shop\"\nbroken = {broken}\n");
            std::fs::write(release.join("app.toml"), settings).unwrap();
            std::fs::write(release.join("page.html"), "{title} {version}").unwrap();
        }
        let state = dir.path().join("proxy");
        let proxy = Command::new(env!("CARGO_BIN_EXE_ops-proxy"))
            .args(["--listen", "127.0.0.1:0", "--state-dir"])
            .arg(&state)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let client = ProxyClient::new(&state);
        let begun = Instant::now();
        let address = loop {
            match runtime.block_on(client.status()) {
                Ok(status) => break status.address,
                Err(last) if begun.elapsed() > Duration::from_secs(20) => panic!("still: {last}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let site = Self { dir, proxy, runtime, public: format!("http://{address}") };
        let config = r#"
            root = "DIR/site"
            command = ["GUESTBOOK", "--port", "{port}", "--version", "{version}",
                       "--release", "{release}", "--database", "DIR/app.db"]
            proxy = "DIR/proxy"
            public_url = "PUBLIC"
            required_files = ["app.toml", "page.html"]
            keep = 0
            [health]
            json_field = "/version"
            [gate]
            consecutive = 2
            deadline_seconds = 15
        "#;
        let config = config
            .replace("DIR", site.dir.path().to_str().unwrap())
            .replace("GUESTBOOK", env!("CARGO_BIN_EXE_guestbook"))
            .replace("PUBLIC", &site.public);
        std::fs::write(site.config(), config).unwrap();
        site
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("site.toml")
    }

    fn deployer(&self, words: &str) -> Answer {
        deployer(words, &self.config(), self.dir.path())
    }

    /// Who answers the public.
    fn version(&self) -> Option<String> {
        let url = format!("{}/health", self.public);
        self.runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client.get(url).send().await.unwrap().error_for_status().ok()?;
            let health: serde_json::Value =
                serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            health["version"].as_str().map(str::to_owned)
        })
    }
}

pub fn deployer(words: &str, config: &Path, dir: &Path) -> Answer {
    let state = dir.join("state");
    let more = ["--json".as_ref(), "--config".as_ref(), config.as_os_str()];
    let more: Vec<_> =
        more.into_iter().chain(["--state-dir".as_ref(), state.as_os_str()]).collect();
    run(env!("CARGO_BIN_EXE_deployer"), words, &more)
}

#[test]
fn versions_come_into_service_and_go_back() {
    let site = Site::new();
    let planned = site.deployer("deploy v1 --dry-run").expect(0);
    assert_eq!(planned.json["plan"]["version"], "v1");
    assert_eq!(site.version(), None, "a dry run deployed");
    site.deployer("deploy v1").expect(3);
    assert_eq!(site.version(), None, "nobody approved");

    site.deployer("deploy v1 --yes").expect(0);
    assert_eq!(site.version().as_deref(), Some("v1"));
    site.deployer("deploy v2 --yes").expect(0);
    assert_eq!(site.version().as_deref(), Some("v2"));
    assert_eq!(site.deployer("deploy v2 --yes").expect(0).json["changed"], false);

    let status = site.deployer("status").expect(0).json;
    assert_eq!(status["current"], "v2");
    assert_eq!(status["running"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["running"][0]["in_traffic"], true);
    let versions = site.deployer("versions").expect(0).json["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 3, "{versions}");

    // It starts, but is not well: the old one serves on.
    let failed = site.deployer("deploy v3 --yes").expect(4);
    assert_eq!(failed.json["report"]["outcome"], "rolled_back");
    assert_eq!(site.version().as_deref(), Some("v2"));

    site.deployer("rollback").expect(3);
    site.deployer("rollback --yes").expect(0);
    assert_eq!(site.version().as_deref(), Some("v1"));
    site.deployer("recover").expect(0);
}

#[test]
fn an_emergency_goes_back_to_what_no_gate_would_let_through() {
    let site = Site::new();
    site.deployer("deploy v1 --yes").expect(0);
    site.deployer("rollback v3 --yes").expect(4);
    assert_eq!(site.version().as_deref(), Some("v1"));
    let planned = site.deployer("rollback v3 --emergency --dry-run").expect(0).json;
    assert_eq!(planned["plan"]["facts"]["emergency"], "true", "{planned}");
    site.deployer("rollback v3 --emergency").expect(3);

    let done = site.deployer("rollback v3 --emergency --yes").expect(0).json;
    assert_eq!(done["report"]["facts"]["emergency"], "true", "{done}");
    assert_eq!(done["report"]["operation"], "rollback");
    assert_eq!(site.deployer("status").expect(0).json["current"], "v3");
    let back = site.deployer("rollback v1 --yes").expect(0).json;
    assert_eq!(back["report"]["facts"]["emergency"], serde_json::Value::Null, "{back}");
    assert_eq!(site.version().as_deref(), Some("v1"));
}

#[test]
fn a_status_that_contradicts_itself_is_for_a_person() {
    let site = Site::new();
    site.deployer("deploy v1 --yes").expect(0);
    let current = site.dir.path().join("site/current");
    ops_core::fs::symlink_swap(&current, "releases/v2".as_ref()).unwrap();
    let status = site.deployer("status").expect(5).json;
    assert_eq!((&status["current"], &status["exit_code"]), (&serde_json::Value::Null, &5.into()));
    assert_eq!(status["contradictions"].as_array().unwrap().len(), 2, "{status}");
    assert_eq!(status["running"][0]["version"], "v1");
}

#[test]
fn every_verb_that_looks_says_what_there_is() {
    let site = Site::new();
    assert_eq!(site.deployer("history").expect(0).json["history"], serde_json::json!([]));
    site.deployer("deploy v1 --yes").expect(0);
    site.deployer("deploy v2 --yes").expect(0);
    let half = site.dir.path().join("site/releases/half");
    std::fs::create_dir(half).unwrap();
    let known = site.deployer("list").expect(0).json["known"].clone();
    let of = |version: &str| {
        let all = known.as_array().unwrap();
        all.iter().find(|it| it["version"] == version).unwrap().clone()
    };
    assert_eq!(
        (of("v2")["in_service"].clone(), of("v2")["complete"].clone()),
        (true.into(), true.into())
    );
    assert_eq!(of("v1")["runs"], false);
    assert!(of("v1")["made"].as_str().unwrap().starts_with("20"), "{known}");
    assert_eq!(of("half")["lacking"].as_array().unwrap().len(), 2, "{known}");
    let history = site.deployer("history").expect(0).json;
    assert_eq!(history["way_back"], serde_json::json!(["v2", "v1"]));
    assert_eq!(history["history"][1]["verb"], "deploy", "{history}");
    let lock = site.deployer("lock").expect(0).json;
    assert_eq!(
        (&lock["holder"], &lock["open"]),
        (&serde_json::Value::Null, &serde_json::json!([]))
    );
    site.deployer("emergency").expect(3);
    site.deployer("emergency --yes").expect(0);
    assert_eq!(site.version().as_deref(), Some("v1"));
}

#[test]
fn a_terminal_gets_a_live_list_and_others_get_lines() {
    let site = Site::new();
    let config = site.config();
    let (program, dir) = (env!("CARGO_BIN_EXE_deployer"), site.dir.path());
    let words = |verb: &str| {
        let (config, state) = (config.display(), dir.join("state"));
        format!("{program} --config {config} --state-dir {} --yes {verb}", state.display())
    };
    // `script` gives the program a terminal.
    let on_terminal = |verb: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &words(verb), "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, seen) = on_terminal("deploy v1");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains(". record the deploy of v1 in the history"), "what waits: {seen}");
    assert!(seen.contains("✓ see that the new instance answers as v1"), "{seen}");
    let (code, seen) = on_terminal("deploy v3");
    assert_eq!(code, 4, "{seen}");
    assert!(seen.contains("✗ see that the new instance answers as v3"), "{seen}");
    assert!(seen.contains("↩ start v3 beside what runs"), "{seen}");

    let lines = Command::new("sh").args(["-c", &words("deploy v2")]).output().unwrap();
    let lines = String::from_utf8_lossy(&lines.stderr).into_owned();
    assert!(lines.contains("  done   send new requests to v2 ("), "{lines}");
    assert!(!lines.contains('\u{1b}') && !lines.contains('✓'), "{lines}");
}

#[test]
fn a_clean_up_removes_what_its_dry_run_listed() {
    let site = Site::new();
    site.deployer("deploy v1 --yes").expect(0);
    site.deployer("deploy v2 --yes").expect(0);
    assert_eq!(site.deployer("cleanup").expect(0).json["changed"], false, "v1 is the way back");
    let releases = site.dir.path().join("site/releases");
    let old = std::time::SystemTime::now() - Duration::from_hours(8 * 24);
    std::fs::File::open(releases.join("v3")).unwrap().set_modified(old).unwrap();

    let planned = site.deployer("cleanup --dry-run").expect(0).json;
    let facts = &planned["plan"]["facts"];
    assert_eq!(facts["keep v2"], "it is in service", "{planned}");
    assert_eq!(facts["keep v1"], "a rollback goes to it");
    assert_eq!(facts["remove v3"], "it was never in service, and is older than seven days");
    assert!(releases.join("v3").is_dir(), "a dry run removed it");
    site.deployer("cleanup").expect(3);
    assert!(releases.join("v3").is_dir(), "nobody approved");

    let digest = planned["digest"].as_str().unwrap();
    site.deployer(&format!("cleanup --approve {digest}")).expect(0);
    assert!(!releases.join("v3").exists());
    assert!(releases.join("v1").is_dir() && releases.join("v2").is_dir());
    assert_eq!(site.deployer("cleanup --yes").expect(0).json["changed"], false);
    assert_eq!(site.version().as_deref(), Some("v2"));
}

#[test]
fn what_is_not_there_is_refused_and_what_makes_no_sense_is_usage() {
    let site = Site::new();
    let refused = site.deployer("deploy v9 --yes").expect(3);
    assert!(refused.err.contains("v9"), "{}", refused.err);
    site.deployer("rollback v9 --yes").expect(3);
    site.deployer("rollback --yes").expect(3);
    site.deployer("tidy").expect(2);
    site.deployer("rollback --emergency v9 --yes").expect(3);
    site.deployer("deploy ../v1").expect(2);
    let dir = site.dir.path();
    deployer("status", &dir.join("none.toml"), dir).expect(2);
    let odd = dir.join("odd.toml");
    for text in ["root = 1", "root = \"/nowhere\"\ncommand = [\"x\"]", "surprise = true"] {
        std::fs::write(&odd, text).unwrap();
        deployer("status", &odd, dir).expect(2);
    }
}

#[test]
fn a_plan_is_printed_and_nothing_is_changed() {
    let site = Site::new();
    let planned = site.deployer("plan v1").expect(0).json;
    assert_eq!(planned["plan"]["version"], "v1");
    assert_eq!(planned["digest"], site.deployer("deploy v1 --dry-run").expect(0).json["digest"]);
    site.deployer("plan v9").expect(3);
    site.deployer("plan").expect(2);
    assert_eq!(site.version(), None);
    site.deployer("deploy v1 --yes").expect(0);
    site.deployer("deploy v2 --yes").expect(0);
    let back = site.deployer("plan --rollback").expect(0).json;
    assert_eq!(
        (&back["plan"]["operation"], &back["plan"]["version"]),
        (&"rollback".into(), &"v1".into())
    );
    assert_eq!(site.version().as_deref(), Some("v2"));
}

/// What `deployer` says of a configuration, without the name of its folder.
fn said_of(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let path = dir.path().join("site.toml");
    std::fs::write(&path, text.replace("DIR", folder)).unwrap();
    let answer = deployer("plan v1", &path, dir.path()).expect(2);
    let said = answer.err.trim().strip_prefix("deployer: ").expect(&answer.err).to_owned();
    said.replace(folder, "DIR").replace("`DIR/site.toml`", "FILE")
}

#[test]
fn a_configuration_that_makes_no_sense_is_told_with_line_and_key() {
    let releases = "root = \"DIR\"\ncommand = [\"x\"]\n";
    let provider = "[provider]\nname = \"shop\"\nstate = \"DIR\"\n\
                    public_url = \"http://127.0.0.1:9\"\ndeploy = [\"tool\", \"{version}\"]\n";
    let cases = [
        // What is not TOML, or not of the right kind. A line may hold a secret, and is not shown.
        ("rot = 1", "FILE, line 1, column 1, `rot`: unknown field `rot`"),
        ("keep = 3\n\nroot = 7", "FILE, line 3, column 8, `root`: invalid type"),
        ("[environment]\nTOKEN = correct-horse", "FILE, line 2, column 9, `TOKEN`: "),
        ("[bake]\nlasts_seconds = 60\nquiet = \"never\"", "FILE, line 3, column 9, `quiet`: "),
        (
            "[bake]\nquiet = \"pass\"",
            "FILE, line 1, column 1, `bake`: missing field `lasts_seconds`",
        ),
        (
            "[[hook]]\nname = \"x\"\nwhen = \"later\"\ncommand = []",
            "FILE, line 3, column 8, `when`: unknown variant `later`",
        ),
        // What makes no sense together.
        ("", "FILE: the configuration names no target; give `root` and `command`"),
        (
            &format!("{releases}{provider}"),
            "FILE, line 3, `provider`: the configuration names `[provider]` and releases with a `root`",
        ),
        (
            &format!("keep = 3\nproxy = \"/srv\"\n{provider}"),
            "FILE, line 2, `proxy`: `proxy` stands outside of [provider]; put it inside, or give \
             releases a `root`\nFILE, line 1, `keep`: `keep` stands outside of [provider]",
        ),
        (
            &format!("{provider}[health]\njson_field = \"/v\"\nheader = \"x-v\""),
            "FILE, line 6, `health`: `[health]` names both `json_field` and `header`",
        ),
        (
            &format!("{provider}[build]\ncommand = [\"make\"]"),
            "FILE, line 6, `build`: a provider's tool builds by itself",
        ),
        (
            &format!("{provider}secrets = [\"OPS_TEST_NO_SUCH_TOKEN\"]"),
            "FILE, line 6, `provider.secrets`: the secrets `OPS_TEST_NO_SUCH_TOKEN` are not in the",
        ),
        (
            "[preflight]\npostgres = { variable = \"OPS_TEST_NO_SUCH\", at_least = \"15\" }",
            "FILE, line 2, `preflight.postgres.variable`: the secrets `OPS_TEST_NO_SUCH` are not in",
        ),
        // Values that a target refuses, all of them at once.
        (
            &format!("{releases}\n[bake]\nlasts_seconds = 1\nerror_rate = 7.0"),
            "FILE, line 4, `bake`: ",
        ),
        (
            "root = \"DIR/nowhere\"\ncommand = [\"x\"]\npublic_url = \"ftp://shop\"",
            "FILE, line 1, `root`: ",
        ),
        (
            &format!("{releases}[health]\npath = \"health\""),
            "FILE, line 4, `health.path`: the health path `health` is relative; begin it with /",
        ),
        (
            &format!(
                "{releases}[[hook]]\nwhen = \"after_switch\"\nname = \"x\"\ncommand = [\"{{no}}\"]"
            ),
            "FILE, line 6, `hook.command`: the command `x`: `{no}` has a brace that is no placeholder",
        ),
        (
            &provider.replace("{version}", "it"),
            "FILE, line 5, `provider.deploy`: the command that deploys does not say which version",
        ),
        (
            "[docker]\napplication = \"shop\"\n",
            if cfg!(feature = "docker") {
                "FILE, line 1, column 1, `docker`: missing field `engines`"
            } else {
                "FILE, line 1, `docker`: this deployer was built without `[docker]`"
            },
        ),
    ];
    let mut wrong = Vec::new();
    for (text, golden) in cases {
        let said = said_of(text);
        assert!(!said.contains("correct-horse"), "{said}");
        if !said.starts_with(golden) {
            wrong.push(format!("{text}\n---- says\n{said}\n---- and not\n{golden}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[cfg(feature = "docker")]
#[test]
fn a_service_that_makes_no_sense_is_told_with_line_and_key() {
    let docker = "[docker]\napplication = \"shop\"\nengines = [\"unix:///nowhere.sock\"]\n\
                  state = \"DIR\"\n\n[[docker.service]]\nname = \"web\"\nimage = \"shop:latest\"\n\
                  environment = { A = \"{nothing}\" }\nvolumes = { \"data\" = \"here\" }\n";
    let said = said_of(docker);
    let lines: Vec<_> = said.lines().collect();
    let at = |n: usize, golden: &str| assert!(lines[n].starts_with(golden), "{said}");
    assert_eq!(lines.len(), 3, "{said}");
    at(0, "FILE, line 8, `docker.service.image`: the service `web` has the image `shop:latest`");
    at(
        1,
        "FILE, line 9, `docker.service.environment.A`: the service `web` `{nothing}` has a brace",
    );
    at(2, "FILE, line 10, `docker.service.volumes.data`: the service `web` has the volume `data`");
    let twice = docker.replace("shop:latest", "shop").replace("engines", "tls = 1\nengines");
    assert!(said_of(&twice).starts_with("FILE, line 3, column 7, `tls`: "), "{}", said_of(&twice));
}
