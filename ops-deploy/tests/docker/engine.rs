//! An engine of a test's own, which it may stop and start. It needs root.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../programs/engine.rs"]
mod for_all;

thread_local! {
    /// A test on one thread has all its tasks there.
    static OWN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The engine of this test: its own, if it has one.
pub fn address() -> String {
    OWN.with_borrow(Clone::clone).unwrap_or_else(for_all::address)
}

pub struct OwnEngine {
    dir: tempfile::TempDir,
    child: Child,
}

fn spawn(dir: &Path) -> Child {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let id = format!("ops-own-{}", std::process::id());
    let log = std::fs::File::create(dir.join("log")).unwrap();
    // It ends with this process, even by SIGKILL.
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "dockerd", "--host"])
        .arg(format!("unix://{}", path("docker.sock")))
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args(["--pidfile", &path("pid"), "--config-file", &path("daemon.json")])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        // What runs is not to end with the engine.
        .args(["--ip-masq=false", "--live-restore"])
        .args([
            "--containerd-namespace",
            &id,
            "--containerd-plugins-namespace",
            &format!("{id}-plugins"),
        ])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("setpriv and dockerd; the engines of these tests need root")
}

impl OwnEngine {
    /// Starts it; from now on this test uses it.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        let child = spawn(dir.path());
        let engine = Self { dir, child };
        engine.await_ready();
        OWN.set(Some(format!("unix://{}", engine.socket().display())));
        engine
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.socket().display())).args(words);
        docker.stderr(Stdio::null());
        docker
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while !self.client(&["version"]).stdout(Stdio::null()).status().unwrap().success() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_mins(1), "no engine: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Blocks until it has ended and is there again.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.dir.path());
        self.await_ready();
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        OWN.set(None);
        // They would outlive it.
        if let Ok(output) = self.client(&["ps", "-aq"]).output() {
            for id in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let _ = self.client(&["rm", "-f", id]).stdout(Stdio::null()).status();
            }
        }
        self.stop();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = |path: &&str| Path::new(path).starts_with(self.dir.path());
        let mut left: Vec<_> =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(ours).collect();
        left.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in left {
            let _ = Command::new("umount").args(["-l", path]).status();
        }
    }
}
