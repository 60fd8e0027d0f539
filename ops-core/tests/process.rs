//! Real processes: what they leave behind, what they may see, and that they end.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "process/canary.rs"]
mod canary;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ops_core::process::{
    Command, Output, OutputObserver, RunContext, Runner, Stream, SystemRunner,
};
use ops_core::{Class, Classify as _, Error, ErrorKind, Redactor, Secret};
use tokio_util::sync::CancellationToken;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script]).grace(Duration::from_secs(5))
}

async fn run(command: &Command) -> Result<Output, Error> {
    run_in(command, &RunContext::default()).await
}

async fn run_in(command: &Command, cx: &RunContext) -> Result<Output, Error> {
    tokio::time::timeout(PATIENCE, SystemRunner.run(command, cx)).await.expect("an end")
}

/// Waits until a file holds a whole line.
async fn line_of(path: &Path) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            state => assert!(Instant::now() < until, "{}: {state:?}", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a process has ended; one that nobody reaped yet has.
async fn gone(pid: &str) {
    let until = Instant::now() + PATIENCE;
    while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])) {
            return;
        }
        assert!(Instant::now() < until, "{pid} is still there: {stat}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn code_signal_outputs_and_input_come_through() {
    let output = run(&sh("cat; echo err >&2; exit 3").stdin("in")).await.unwrap();
    assert_eq!((output.code, output.signal), (Some(3), None));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in"[..], &b"err\n"[..]));
    assert!(!output.truncated && !output.held_open);
    let error = output.success(&sh("")).unwrap_err();
    assert_eq!(error.to_string(), "`sh` ended with code 3: err");
    assert_eq!((error.kind(), error.class()), (ErrorKind::Process, Class::Permanent));

    let output = run(&sh("kill -9 $$")).await.unwrap();
    assert_eq!((output.code, output.signal), (None, Some(9)));

    let output = run(&sh("printf 'a\\377b\\0c'")).await.unwrap();
    assert_eq!(output.stdout, b"a\xffb\0c");
    assert_eq!(output.stdout_text(), "a\u{fffd}b\0c");

    // Without an input there is one that is at its end, and never the terminal's.
    assert_eq!(run(&sh("cat; echo end")).await.unwrap().stdout, b"end\n");
    // No shell: what looks like one's syntax is an argument.
    let echo = Command::new("echo").args(["$HOME; *", "`id`"]);
    assert_eq!(run(&echo).await.unwrap().stdout_text(), "$HOME; * `id`\n");
}

#[tokio::test]
async fn an_input_that_is_not_read_does_not_hang() {
    let large = vec![b'x'; 4 * 1024 * 1024];
    assert!(run(&sh("exit 0").stdin(large.clone())).await.unwrap().is_success());
    // More than both pipes hold: it is written while the output is read.
    let output = run(&Command::new("cat").stdin(large).output_cap(100)).await.unwrap();
    assert!(output.is_success() && output.truncated);
}

#[tokio::test]
async fn what_is_not_there_is_told_by_name() {
    let error =
        run(&Command::new("no-such-program-here").env("PATH", "/nowhere")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the program `no-such-program-here` is not found (PATH=/nowhere); install it, or give its path"
    );
    assert_eq!((error.kind(), error.class()), (ErrorKind::Process, Class::Permanent));
    let error = run(&sh("true").cwd("/no/such/folder")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the working folder `/no/such/folder` of `sh` is no folder; create it first"
    );
    let folder = tempfile::tempdir().unwrap();
    let error = run(&Command::new(folder.path())).await.unwrap_err();
    assert!(error.to_string().ends_with("cannot be started"), "{error}");
    let output = run(&sh("pwd -P").cwd(folder.path())).await.unwrap();
    let real = folder.path().canonicalize().unwrap();
    assert_eq!(output.stdout_text().trim(), real.to_str().unwrap());
}

#[tokio::test]
async fn a_child_sees_the_allowed_variables_only() {
    let command = Command::new("env")
        .env("GIVEN", "1")
        .inherit_env(["CARGO_PKG_NAME", "OPS_CORE_NOT_SET"])
        .secret_env("TOKEN", Secret::new("c4n4ry-0123"));
    let output = run(&command).await.unwrap();
    let text = output.stdout_text();
    let mut names: Vec<_> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.retain(|name| !name.starts_with("LC_"));
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is one to keep back");
    let allowed =
        ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "GIVEN", "CARGO_PKG_NAME", "TOKEN"];
    for name in &names {
        assert!(allowed.contains(name), "`{name}` is not allowed: {text}");
    }
    for name in ["PATH", "GIVEN", "CARGO_PKG_NAME", "TOKEN"] {
        assert!(names.contains(&name), "`{name}` is missing: {text}");
    }
    assert!(text.contains("TOKEN=[redacted]\n"), "{text}");
}

#[tokio::test]
async fn the_deadline_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    // The grandchild ignores TERM and has closed its outputs: only KILL to the group ends it.
    let script = format!(
        "(trap '' TERM; exec >&- 2>&-; sleep 1000 & echo $! > {0}; wait) & echo begun >&2; wait",
        pid.display()
    );
    let deadline = async {
        let command = sh(&script).deadline(Duration::from_millis(1500));
        let error = run(&command).await.unwrap_err();
        (error, line_of(&pid).await)
    };
    let (error, pid) = deadline.await;
    assert_eq!((error.kind(), error.class()), (ErrorKind::Process, Class::OutcomeUnknown));
    assert!(
        error.to_string().starts_with("`sh` did not end within 1.5s and was ended: begun;"),
        "{error}"
    );
    gone(&pid).await;
}

#[tokio::test]
async fn term_comes_first_and_kill_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let tidied = folder.path().join("tidied");
    let script =
        format!("trap 'echo tidied > {}; exit 0' TERM; sleep 1000 & wait", tidied.display());
    run(&sh(&script).deadline(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(line_of(&tidied).await, "tidied");

    let grace = Duration::from_millis(200);
    let deaf = sh("trap '' TERM; echo deaf >&2; while :; do sleep 1; done");
    let begun = Instant::now();
    let deaf = deaf.deadline(Duration::from_secs(1)).grace(grace);
    let error = run(&deaf).await.unwrap_err();
    assert!(error.to_string().contains("deaf"), "{error}");
    assert!(begun.elapsed() >= grace + Duration::from_secs(1));

    // One that is stopped cannot hear TERM, unless it is woken.
    let begun = Instant::now();
    let stopped = sh("kill -STOP $$").deadline(Duration::from_millis(300)).grace(PATIENCE);
    run(&stopped).await.unwrap_err();
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_does_not_hold_us() {
    let script = "sleep 1000 & echo $!; echo done >&2";
    let begun = Instant::now();
    let output = run(&sh(script)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    let pid = output.stdout_text().trim().to_owned();
    assert!(output.is_success() && output.held_open);
    assert_eq!(output.stderr, b"done\n");
    assert!(output.duration < Duration::from_secs(1), "the child's own time");
    assert!(is_alive(&pid), "what a program leaves behind on purpose is left alone");
    run(&Command::new("kill").args(["-9", &pid])).await.unwrap().success(&sh("")).unwrap();
    gone(&pid).await;

    let script = "setsid sh -c 'while :; do echo x; done' & echo $!";
    let output = run(&sh(script)).await.unwrap();
    assert!(output.held_open, "one that never stops writing neither");
    // Its output is closed now: the next write ends it.
    gone(output.stdout_text().lines().find(|line| *line != "x").unwrap()).await;
}

#[tokio::test]
async fn a_flood_stays_in_its_cap() {
    let script = "echo first; head -c 100000000 /dev/zero | tr '\\0' '\\n'; echo last";
    let output = run(&sh(script).output_cap(64 * 1024)).await.unwrap();
    assert!(output.is_success() && output.truncated);
    assert!(output.stdout.len() < 64 * 1024 + 100, "{}", output.stdout.len());
    let text = output.stdout_text();
    assert!(text.starts_with("first\n") && text.ends_with("last\n"));
    let left_out = 100_000_000 + "first\nlast\n".len() - 64 * 1024;
    assert!(text.contains(&format!("\n[{left_out} bytes left out]\n")));
}

#[derive(Debug, Default, Clone)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl OutputObserver for Lines {
    fn line(&self, stream: Stream, line: &str) {
        self.0.lock().unwrap().push(format!("{stream}: {line}"));
    }
}

#[tokio::test]
async fn a_cancellation_ends_it_and_the_observer_saw_its_lines_before() {
    let (lines, token) = (Lines::default(), CancellationToken::new());
    let cx = RunContext::default().observer(lines.clone()).cancellation(token.clone());
    let command = sh("echo out; echo err >&2; sleep 1000");
    let watch = async {
        let until = Instant::now() + PATIENCE;
        while lines.0.lock().unwrap().len() < 2 {
            assert!(Instant::now() < until, "{lines:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        token.cancel();
    };
    let (ended, ()) = tokio::join!(run_in(&command, &cx), watch);
    let error = ended.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Process, Class::OutcomeUnknown));
    assert!(error.to_string().starts_with("`sh` was ended by a cancellation: err;"), "{error}");
    let mut seen = lines.0.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["stderr: err", "stdout: out"]);

    let error = run_in(&command, &cx).await.unwrap_err();
    assert_eq!(error.to_string(), "`sh` was not started: a cancellation came before");
    assert_eq!(error.class(), Class::Temporary);
}

#[tokio::test]
async fn dropping_the_future_kills_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, child) = (folder.path().join("leader"), folder.path().join("child"));
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $! > {}; echo $$ > {}; wait",
        child.display(),
        leader.display()
    );
    let command = sh(&script);
    let cx = RunContext::default();
    let (leader, child) = tokio::select! {
        ended = SystemRunner.run(&command, &cx) => panic!("{ended:?}"),
        pids = async { (line_of(&leader).await, line_of(&child).await) } => pids,
    };
    gone(&leader).await;
    gone(&child).await;
}

#[tokio::test]
async fn secrets_are_seen_nowhere() {
    let canary = "c4n4ry \"q\" \u{e9}%/0123456789";
    let secret = || Secret::new(canary);
    let (redactor, lines) = (Redactor::default(), Lines::default());
    let cx = RunContext::default().redactor(redactor.clone()).observer(lines.clone());
    // Cut in the middle, in both outputs, and at the caps.
    let script = "printf %s \"$TOKEN\" | base64 -w0; echo; \
                  printf 'begin %.6s' \"$TOKEN\"; sleep 0.05; printf '%s\\n' \"${TOKEN#??????}\"; \
                  echo \"argv $1 $2\" >&2; p=unk; echo url postgres://u:${p}nown@h >&2; exit 1";
    let command = sh(script)
        .args(["sh"])
        .arg_secret(secret())
        .arg_secret_after("--password=", secret())
        .secret_env("TOKEN", secret());
    let output = run_in(&command, &cx).await.unwrap();
    assert_eq!(output.stdout_text().lines().last(), Some("begin [redacted]"), "{output:?}");
    let error = output.clone().success(&command).unwrap_err();
    assert!(error.to_string().contains("--password=[redacted] / url postgres://u:[redacted]@h"));
    for cap in (0..60).step_by(4) {
        let output = run_in(&command.clone().output_cap(cap), &cx).await.unwrap();
        check(&format!("{output:?} {} {}", output.stdout_text(), output.stderr_text()), cap);
    }
    let late = sh("echo $TOKEN >&2; sleep 1000").secret_env("TOKEN", secret());
    let late = run_in(&late.deadline(Duration::from_millis(300)), &cx).await.unwrap_err();
    let missing = Command::new("none").arg_secret(secret()).env("PATH", format!("/x/{canary}"));
    let missing = run_in(&missing.secret_env("X", secret()), &cx).await.unwrap_err();
    let folder = run_in(&sh("").secret_env("X", secret()).cwd(canary), &cx).await.unwrap_err();
    let (fresh, input) = (Redactor::default(), Command::new("cat").secret_stdin(secret()));
    let echoed = run_in(&input, &RunContext::default().redactor(fresh)).await.unwrap();
    assert_eq!(echoed.stdout, b"[redacted]", "each command brings what it must not show");
    for said in [
        format!("{output:?} {} {}", output.stdout_text(), output.stderr_text()),
        format!("{error} {error:?} {late} {late:?} {missing} {missing:?} {folder} {folder:?}"),
        format!("{command} {command:?} {:?} {lines:?}", command.argv()),
    ] {
        assert!(!redactor.finds_in(&said), "{said}");
        check(&said, 0);
    }
}

fn check(said: &str, cap: usize) {
    for part in ["c4n4", "4n4r", "4567", "6789", "YzRuNHJ5", "unknown"] {
        assert!(!said.contains(part), "`{part}` with a cap of {cap}: {said}");
    }
}

#[test]
fn runners_and_commands_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Arc<dyn Runner>>();
    shared::<Command>();
    shared::<RunContext>();
    shared::<Output>();
}
