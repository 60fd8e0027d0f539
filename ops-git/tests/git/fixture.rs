//! Repositories made by the git program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ops_core::{Context, Environment, ManualClock};
use ops_git::GitRepository;

/// Runs git, away from everybody's configuration and clock.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = command(dir, args).output().unwrap();
    assert!(
        output.status.success(),
        "git {args:?} in {}: {}",
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "safe.directory=*",
        ])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A U Thor")
        .env("GIT_AUTHOR_EMAIL", "author@example.org")
        .env("GIT_COMMITTER_NAME", "C O Mitter")
        .env("GIT_COMMITTER_EMAIL", "committer@example.org")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000");
    command
}

/// A folder with a work tree that pushes into a bare `origin.git`, and room for a mirror.
pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    /// An origin with nothing in it.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let world = Self { dir };
        let origin = world.origin();
        git(&world.work(), &["remote", "add", "origin", origin.to_str().unwrap()]);
        world
    }

    /// An origin with one commit on `main`.
    pub fn new() -> Self {
        let world = Self::empty();
        world.commit("a.txt", "one\n");
        world.push();
        world
    }

    pub fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn mirror_path(&self) -> PathBuf {
        self.dir.path().join("mirror.git")
    }

    pub fn mirror(&self) -> GitRepository {
        GitRepository::mirror(self.origin().to_str().unwrap(), self.mirror_path()).unwrap()
    }

    /// Writes a file and commits it; the commit's id.
    pub fn commit(&self, path: &str, content: &str) -> String {
        let file = self.work().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", &format!("Write {path}")]);
        self.head()
    }

    pub fn head(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    pub fn push(&self) {
        git(&self.work(), &["push", "-q", "--force", "--tags", "origin", "HEAD"]);
    }

    pub fn cx(&self) -> Context {
        Context::builder(self.dir.path().join("state"))
            .environment(Environment::Development)
            .build()
    }

    /// The same with another clock.
    pub fn cx_at(&self, clock: &ManualClock) -> Context {
        Context::builder(self.dir.path().join("state"))
            .environment(Environment::Development)
            .clock(clock.clone())
            .build()
    }

    /// The full id of a ref of the mirror; empty if there is none.
    pub fn mirrored(&self, name: &str) -> String {
        let output =
            command(&self.mirror_path(), &["rev-parse", "-q", "--verify", name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What git itself thinks of the mirror, and that no recovery ref is left.
    pub fn mirror_is_sound(&self) {
        git(&self.mirror_path(), &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(git(&self.mirror_path(), &["for-each-ref", "refs/ops-git"]), "");
    }
}

/// Waits until a program that a test started has made this file.
pub async fn made(file: &Path) {
    let waiting = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("a program that runs");
}

/// The messages of an error and of its sources.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    ops_core::error::chain(error).join(": ")
}
