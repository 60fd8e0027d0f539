//! Over ssh: a script in the place of the program, and a real server.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ops_core::ManualClock;
use ops_git::{ErrorKind, GitRepository, PullOptions};

use super::left::{eventually, no_process, no_thread, nothing_temporary, refs_of, sound};
use crate::fixture::{World, chain, git, made};

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A mirror over ssh whose program is a script: `$last` is the command that the host would run.
fn mirror(world: &World, text: &str) -> GitRepository {
    let url = format!("ssh://git@example.invalid{}", world.origin().display());
    let mirror = GitRepository::mirror(&url, world.mirror_path()).unwrap();
    let prelude = "for last; do :; done";
    let program = script(world.dir.path(), "fake-ssh", &format!("{prelude}\n{text}"));
    let setting = format!("'{}' -i 'a key'", program.display());
    git(&world.mirror_path(), &["config", "core.sshCommand", &setting]);
    mirror
}

#[tokio::test]
async fn over_ssh_git_itself_answers() {
    let world = World::new();
    git(&world.work(), &["tag", "-a", "-m", "first", "v1"]);
    world.push();
    let said = world.dir.path().join("said");
    let text = format!(
        "printf '%s\\n' \"$@\" \"$GIT_PROTOCOL\" >>'{}'\nexec sh -c \"$last\"",
        said.display()
    );
    let mirror = mirror(&world, &text);
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    assert_eq!(world.mirrored("v1^{commit}"), world.head());
    let expected = format!(
        "-i\na key\n-o\nBatchMode=yes\n-o\nSendEnv=GIT_PROTOCOL\ngit@example.invalid\n\
         git-upload-pack '{}'\nversion=2\n",
        world.origin().display()
    );
    assert_eq!(std::fs::read_to_string(&said).unwrap(), expected);

    let second = world.commit("a.txt", "two\n");
    world.push();
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.facts["commits"], "1");
    assert_eq!(world.mirrored("refs/heads/main"), second);
    assert_eq!(mirror.safe_pull(&cx).await.unwrap().facts["result"], "already up to date");
    world.mirror_is_sound();
    nothing_temporary(&world.mirror_path());
    no_thread();
    no_process(world.dir.path().to_str().unwrap());
}

#[tokio::test]
async fn a_host_that_knows_only_the_old_protocol_is_understood() {
    let world = World::new();
    let mirror = mirror(&world, "unset GIT_PROTOCOL\nexec sh -c \"$last\"");
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    world.mirror_is_sound();
}

#[tokio::test]
async fn the_environment_names_the_program_too() {
    let world = World::new();
    let text = "exec sh -c \"$last\"";
    let _ = mirror(&world, text);
    git(&world.mirror_path(), &["config", "--unset", "core.sshCommand"]);
    let simple = script(world.dir.path(), "simple-ssh", "test $# = 2 && exec sh -c \"$2\"");
    let program = world.dir.path().join("fake-ssh");
    for (number, set) in [
        vec![("GIT_SSH_COMMAND", format!("'{}'", program.display()))],
        vec![("GIT_SSH", program.display().to_string())],
        vec![("GIT_SSH", simple.display().to_string()), ("GIT_SSH_VARIANT", "simple".into())],
    ]
    .into_iter()
    .enumerate()
    {
        let commit = world.commit("a.txt", &format!("{number}\n"));
        world.push();
        let mut pull = std::process::Command::new(env!("CARGO_BIN_EXE_git-crash-program"));
        let output = pull.arg(world.dir.path()).arg("pull").envs(set).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(world.mirrored("refs/heads/main"), commit);
    }
}

#[tokio::test]
async fn what_ssh_says_is_told() {
    let world = World::new();
    for (says, kind, retry) in [
        ("git@example.invalid: Permission denied (publickey).", ErrorKind::Unauthenticated, false),
        ("Host key verification failed.", ErrorKind::Unauthenticated, false),
        ("ssh: Could not resolve hostname example.invalid", ErrorKind::Remote, true),
        ("fatal: '/x' does not appear to be a git repository", ErrorKind::Remote, false),
    ] {
        let mirror = mirror(&world, &format!("echo \"{says}\" >&2; exit 255"));
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.is_retryable(), retry, "{says}");
        sound(&world.mirror_path(), "");
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
    let mirror = mirror(&world, "");
    for (setting, says) in
        [("ssh; rm x", "needs a shell"), ("/no/such/program", "/no/such/program")]
    {
        git(&world.mirror_path(), &["config", "core.sshCommand", setting]);
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_hung_host_ends_at_the_deadline_at_a_cancellation_and_when_nobody_waits() {
    let world = World::new();
    // It hangs in a grandchild, deaf to the first signal.
    let began = world.dir.path().join("began");
    let hung = format!(
        "trap '' TERM\nsleep 7371{} & echo >'{}'; wait; sleep 7371",
        std::process::id(),
        began.display()
    );
    let mirror = mirror(&world, &hung);
    let (deadline, clock) =
        (PullOptions::default().deadline, ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let cx = world.cx_at(&clock);
    let left = || {
        no_thread();
        no_process(world.dir.path().to_str().unwrap());
        no_process(&format!("7371{}", std::process::id()));
        sound(&world.mirror_path(), "");
        std::fs::remove_file(&began).unwrap();
    };

    let (pulled, ()) = tokio::join!(mirror.plan_pull(&cx, PullOptions::default()), async {
        made(&began).await;
        clock.advance(deadline);
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{}", chain(&error));
    let remedy = ops_core::Classify::remedy(&error).unwrap();
    assert!(!remedy.contains("waits for the disk"), "{error}");
    left();

    let cancelled = cx.child();
    let token = cancelled.cancellation().clone();
    let (pulled, ()) = tokio::join!(mirror.safe_pull(&cancelled), async {
        made(&began).await;
        token.cancel();
    });
    assert_eq!(pulled.unwrap_err().kind(), ErrorKind::Cancelled);
    left();

    tokio::select! {
        pulled = mirror.safe_pull(&cx) => panic!("it does not hang: {pulled:?}"),
        () = made(&began) => {}
    }
    left();
}

#[tokio::test]
async fn a_host_that_hangs_or_ends_within_the_pack_leaves_nothing() {
    let world = World::new();
    for number in 0..40 {
        world.commit(&format!("{number}"), &noise(number));
    }
    world.push();
    let cx = world.cx();
    for (text, kind, deadline) in [
        (
            "sh -c \"$last\" | { dd bs=1 count=20000 2>/dev/null; exec sleep 4242; }",
            ErrorKind::TimedOut,
            2,
        ),
        ("sh -c \"$last\" | dd bs=1 count=20000 2>/dev/null", ErrorKind::Remote, 60),
    ] {
        let mirror = mirror(&world, text);
        let options = PullOptions::default().deadline(Duration::from_secs(deadline));
        let error = mirror.plan_pull(&cx, options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        no_thread();
        no_process(world.dir.path().to_str().unwrap());
        sound(&world.mirror_path(), "");
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}

/// Text that does not compress.
pub fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    for _ in 0..256 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writeln!(text, "{state:016x}").unwrap();
    }
    text
}

#[tokio::test]
async fn a_real_server_is_reached_with_a_key_and_not_without() {
    let world = World::new();
    let server = Sshd::start(world.dir.path());
    let url = format!("ssh://root@127.0.0.1:{}{}", server.port, world.origin().display());
    let mirror = GitRepository::mirror(&url, world.mirror_path()).unwrap();
    let with_key = |key: &str| {
        let dir = world.dir.path().display();
        let line = format!(
            "ssh -F /dev/null -o UserKnownHostsFile={dir}/known -o IdentitiesOnly=yes -i {dir}/{key}"
        );
        git(&world.mirror_path(), &["config", "core.sshCommand", &line]);
    };
    with_key("key");
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
    assert!(error.to_string().contains("Host key verification failed"), "{error}");
    let host = std::fs::read_to_string(world.dir.path().join("host.pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {host}", server.port);
    std::fs::write(world.dir.path().join("known"), line).unwrap();

    with_key("other");
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
    assert_eq!(refs_of(&world.mirror_path()), "");

    with_key("key");
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    world.mirror_is_sound();
    no_thread();
}

/// A server of ssh on this machine, with keys of its own.
struct Sshd {
    child: std::process::Child,
    port: u16,
}

impl Sshd {
    fn start(dir: &Path) -> Self {
        for name in ["host", "key", "other"] {
            let path = dir.join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
        }
        std::fs::copy(dir.join("key.pub"), dir.join("authorized")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile \
             {at}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n"
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
        let sshd = Self { child, port };
        eventually("sshd does not listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        sshd
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
