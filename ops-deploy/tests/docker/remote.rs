//! Engines that are not behind a socket of this machine: through TLS, and through ssh.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ops_deploy::docker::EngineAddress;
use ops_deploy::{ContainerSpec, DockerHost, Preflight, Target};

use crate::images::{docker_at, import, import_at};
use crate::stage::{Dock, remove_all, v};

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn openssl(dir: &Path, args: &[&str]) {
    succeeds(Command::new("openssl").args(args).current_dir(dir));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// An authority in a folder of its own, and what it signed: `server` and `client`.
fn authority(dir: &Path, name: &str) -> PathBuf {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    let subject = format!("/CN={name}");
    let whole = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", &subject];
    openssl(&dir, &[&["req", "-x509"], &KEY[..], &whole].concat());
    for (who, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let file = |end: &str| format!("{who}.{end}");
        let (key, request, signed) = (file("key"), file("csr"), file("pem"));
        let wanted = ["-keyout", &key, "-out", &request, "-subj", &format!("/CN={who}")];
        openssl(&dir, &[&["req"], &KEY[..], &wanted].concat());
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(dir.join("extensions"), extensions).unwrap();
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        let sign = ["x509", "-req", "-in", &request, "-out", &signed, "-extfile", "extensions"];
        openssl(&dir, &[&sign[..], &by].concat());
    }
    dir
}

/// An engine of its own that asks who comes.
struct Guarded {
    dir: tempfile::TempDir,
    port: u16,
    dockerd: Child,
}

impl Guarded {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let own = authority(dir.path(), "own");
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let tls = |name: &str| own.join(name).to_str().unwrap().to_owned();
        std::fs::write(at("daemon.json"), "{}").unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let namespace = format!("tls-{}", std::process::id());
        // It dies with this process, even by SIGKILL.
        let dockerd = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "dockerd", "--host", &format!("unix://{}", at("socket"))])
            .args(["--host", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"])
            .args(["--tlscacert", &tls("ca.pem"), "--tlscert", &tls("server.pem")])
            .args(["--tlskey", &tls("server.key"), "--data-root", &at("data")])
            .args(["--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--config-file", &at("daemon.json"), "--containerd-namespace", &namespace])
            .args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("an engine of one's own needs root, setpriv and dockerd");
        let mut guarded = Self { dir, port, dockerd };
        until("the engine does not listen", || {
            if let Some(ended) = guarded.dockerd.try_wait().unwrap() {
                let log = std::fs::read_to_string(guarded.dir.path().join("log")).unwrap();
                panic!("the engine ended with {ended}: {log}");
            }
            TcpStream::connect(("127.0.0.1", guarded.port)).is_ok()
        });
        guarded
    }

    fn address(&self, ca: &Path, client: &Path) -> EngineAddress {
        EngineAddress::from(format!("tcp://127.0.0.1:{}", self.port)).tls(
            ca.join("ca.pem"),
            client.join("client.pem"),
            client.join("client.key"),
        )
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let socket = format!("unix://{}", self.dir.path().join("socket").display());
        let line = "docker --host \"$1\" ps -aq | xargs -r docker --host \"$1\" rm -f";
        let _ = Command::new("sh").args(["-c", line, "sh", &socket]).output();
        let pid = self.dockerd.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let begun = Instant::now();
        while self.dockerd.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > Duration::from_secs(20) {
                let _ = self.dockerd.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An application that answers nobody, on the engine at this address.
fn bot(dock: &Dock, address: EngineAddress, preflight: Preflight) -> DockerHost {
    let bot = ContainerSpec::new("bot", format!("{}/bot", dock.application()))
        .silent()
        .stop_signal("SIGKILL");
    DockerHost::builder(dock.application(), address, dock.path().join("host"))
        .service(bot)
        .preflight(preflight)
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_engine_is_reached_through_tls_by_who_has_its_authoritys_word_and_nobody_else() {
    let dock = Dock::without_proxy();
    let engine = Guarded::start();
    let (own, other) = (engine.dir.path().join("own"), authority(engine.dir.path(), "other"));
    let socket = format!("unix://{}", engine.dir.path().join("socket").display());
    for version in ["a000001", "a000002"] {
        import_at(&socket, &format!("{}/bot:{version}", dock.application()), "worker", &[]).await;
    }
    let host =
        |ca: &Path, client: &Path| bot(&dock, engine.address(ca, client), Preflight::default());
    let ours = host(&own, &own);
    ours.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    ours.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    ours.rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(ours.observe().await.unwrap().current, Some(v("a000001")));

    // Somebody else's engine, and somebody else: both are told apart before anything is said.
    let error = host(&other, &own).observe().await.unwrap_err();
    let told = ops_core::error::chain(&error).join(": ");
    assert!(told.contains("UnknownIssuer"), "{told}");
    let error = host(&own, &other).observe().await.unwrap_err();
    let told = ops_core::error::chain(&error).join(": ").to_lowercase();
    assert!(told.contains("certificate") || told.contains("alert"), "{told}");
    // A key is in no error and no plan.
    assert!(!told.contains("private key"), "{told}");

    // The certificates' own time is a finding.
    let patient = Preflight::default().certificates_valid_for(Duration::from_hours(24 * 9));
    let late = bot(&dock, engine.address(&own, &own), patient);
    let error = late.deploy(&dock.cx(), &v("a000002")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    let told: Vec<_> = error.reasons().iter().map(|it| it.reason.clone()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|it| it.contains("expires at")), "{told:?}");
    let left = docker_at(&socket).await.list_containers(None).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// A server of ssh on this machine, with keys of its own, behind which the engine of the tests is.
struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    fn start(dir: &Path) -> Self {
        for name in ["host_key", "key", "other"] {
            let path = dir.join(name);
            succeeds(Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(path));
        }
        std::fs::copy(dir.join("key.pub"), dir.join("authorized")).unwrap();
        let (port, at) = (free_port(), dir.display());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host_key\nAuthorizedKeysFile \
             {at}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin prohibit-password\nSetEnv DOCKER_HOST={}\n",
            crate::dock::engine()
        );
        std::fs::write(dir.join("sshd_config"), config).unwrap();
        // Where it puts itself before it knows who asks.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stderr(Stdio::null())
            .spawn()
            .expect("there is an sshd: scripts/install-missing sshd");
        until("sshd does not listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let host = std::fs::read_to_string(dir.join("host_key.pub")).unwrap();
        std::fs::write(dir.join("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        Self { child, port }
    }

    /// The program with settings of its own, instead of those of whoever runs the tests.
    fn address(&self, dir: &Path, key: &str) -> EngineAddress {
        let (at, program) = (dir.display(), dir.join(format!("ssh-{key}")));
        let line = format!(
            "#!/bin/sh\nexec ssh -F /dev/null -o UserKnownHostsFile={at}/known \
             -o IdentitiesOnly=yes -i {at}/{key} \"$@\"\n"
        );
        std::fs::write(&program, line).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = ops_core::host::user();
        let host = format!("ssh://{user}@127.0.0.1:{}", self.port);
        EngineAddress::from(host).ssh_program(program)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_engine_is_reached_through_ssh_with_a_key_and_not_without() {
    let dock = Dock::without_proxy();
    let dir = dock.path().join("ssh");
    std::fs::create_dir(&dir).unwrap();
    let server = Sshd::start(&dir);
    for version in ["a000001", "a000002"] {
        import(&format!("{}/bot:{version}", dock.application()), "worker", &[]).await;
    }
    let host = |key: &str| bot(&dock, server.address(&dir, key), Preflight::default());
    let ours = host("key");
    ours.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    ours.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    ours.rollback(&dock.cx(), None).await.unwrap();
    assert_eq!(ours.observe().await.unwrap().current, Some(v("a000001")));
    let error = host("other").observe().await.unwrap_err();
    let told = ops_core::error::chain(&error).join(": ");
    assert!(told.contains("Permission denied"), "{told}");
    remove_all(&dock.application()).await;
}
