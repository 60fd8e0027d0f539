//! The engine, images out of nothing, and whether the public hears a version.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::{Failure, Wish};

/// The two versions.
pub(super) const TAGS: [&str; 2] = ["a000001", "a000002"];
const HOST: &str = "OPS_TEST_DOCKER_HOST";
const SOURCE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../ops-deploy/tests/programs/contained.rs");
/// The head of an answer may be so large.
const HEAD: u64 = 16 * 1024;
/// Nobody waits longer than this for a version.
const PATIENCE: Duration = Duration::from_mins(1);

/// That the peers' programs and an engine are there.
///
/// # Errors
/// Names all that is missing.
pub fn need_programs(_: &Wish) -> Result<(), Failure> {
    let missing: Vec<_> = ["docker", "docker-compose", "nginx", "rustc", "setpriv", "tar"]
        .into_iter()
        .filter(|program| {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
        })
        .collect();
    if !missing.is_empty() {
        return Err(format!("deploy: install {}", missing.join(", ")).into());
    }
    if std::env::var_os(HOST).is_none() {
        return Err(
            format!("deploy: name an engine in {HOST}, or run by scripts/with-services").into()
        );
    }
    Ok(())
}

/// The engine's address.
pub(super) fn host() -> String {
    std::env::var(HOST).unwrap_or_default()
}

/// Runs a program to its end; its words if it ends badly.
pub(super) fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}: {said}", command.get_program().display(), output.status).into())
}

pub(super) fn docker(words: &[&str]) -> Result<String, Failure> {
    run(Command::new("docker").arg("--host").arg(host()).args(words))
}

/// A port that is free now.
pub(super) fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// An application of two versions, with a name that no other has; its images and containers go with
/// it.
#[derive(Debug)]
pub(super) struct Application(pub String);

impl Application {
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let id = ops_core::OperationId::generate().to_string().to_lowercase();
        let application = Self(format!("b{id}"));
        let program = program(folder)?;
        for tag in TAGS {
            let mut pack = Command::new("tar");
            pack.arg("-C").arg(&program).args(["-c", "serve"]).stdout(Stdio::piped());
            let mut pack = pack.spawn()?;
            let mut import = Command::new("docker");
            import.arg("--host").arg(host()).arg("import");
            import.args(["--change", &format!("ENV BUILD_VERSION={tag}"), "-"]);
            import.arg(application.image(tag));
            let packed = pack.stdout.take().ok_or("tar has no output")?;
            let done = import.stdin(packed).stdout(Stdio::null()).status()?;
            if !pack.wait()?.success() || !done.success() {
                return Err("an image could not be made".into());
            }
        }
        Ok(application)
    }

    pub fn repository(&self) -> String {
        format!("{}/web", self.0)
    }

    pub fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository())
    }

    /// The containers of its images that have this state, or any.
    pub fn containers(&self, state: Option<&str>) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for tag in TAGS {
            let ancestor = format!("ancestor={}", self.image(tag));
            let mut words = vec!["ps", "-aq", "--filter", ancestor.as_str()];
            let status = state.map(|state| format!("status={state}"));
            words.extend(status.iter().flat_map(|status| ["--filter", status.as_str()]));
            found.extend(docker(&words)?.split_whitespace().map(str::to_owned));
        }
        Ok(found)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // What cannot be removed goes with the engine.
        for id in self.containers(None).unwrap_or_default() {
            let _ = docker(&["rm", "-f", &id]);
        }
        for tag in TAGS {
            let _ = docker(&["rmi", "-f", &self.image(tag)]);
        }
    }
}

/// The folder with the static program, which is compiled by itself.
fn program(folder: &Path) -> Result<PathBuf, Failure> {
    let out = folder.join("serve");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"]);
    run(rustc.args(["-Copt-level=1", "-o"]).arg(&out).arg(SOURCE))?;
    Ok(folder.to_owned())
}

/// Which version answers.
pub(super) fn version(address: SocketAddr) -> Option<String> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, second).ok()?;
    stream.set_read_timeout(Some(second)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
    // The service keeps the connection: there is no end to wait for.
    let head = BufReader::new(stream.take(HEAD)).lines().map_while(Result::ok);
    let mut head = head.take_while(|line| !line.is_empty());
    head.find_map(|line| line.strip_prefix("x-version: ").map(str::to_owned))
}

/// Listens until the public hears a version.
pub(super) struct Heard(Receiver<Duration>);

impl Heard {
    pub fn listen(address: SocketAddr, tag: &'static str) -> Self {
        let (tell, told) = channel();
        let begun = Instant::now();
        std::thread::spawn(move || {
            while begun.elapsed() < PATIENCE {
                if version(address).as_deref() == Some(tag) {
                    let _ = tell.send(begun.elapsed());
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self(told)
    }

    /// After how long it was heard.
    pub fn after(self) -> Result<Duration, Failure> {
        self.0.recv_timeout(PATIENCE).map_err(|_| "the public did not hear the version".into())
    }
}
