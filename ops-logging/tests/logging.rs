//! Logging against a real file system: rotation, retention, disturbance, full disks, processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ops_core::{ManualClock, Redactor, Secret};
use ops_logging::{Counts, ErrorKind, Format, LogGuard, Logging, LoggingBuilder, Retention};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

const DAY: Duration = Duration::from_hours(24);

fn clock(at: &str) -> ManualClock {
    ManualClock::new(at.parse().unwrap())
}

fn builder(folder: &Path, clock: &ManualClock) -> LoggingBuilder {
    Logging::builder().directory(folder).clock(clock.clone()).trouble(ops_logging::Console::Off)
}

/// Logs on this thread for as long as the second value lives.
fn start(builder: LoggingBuilder) -> (LogGuard, DefaultGuard) {
    let (layer, guard) = builder.layer().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    (guard, tracing::subscriber::set_default(subscriber))
}

/// Every file's name and lines; the lock files aside.
fn files(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() && !name.starts_with('.') {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{name} ends in half a line");
            files.insert(name, text.lines().map(str::to_owned).collect());
        }
    }
    files
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

fn lines(folder: &Path) -> Vec<String> {
    files(folder).into_values().flatten().collect()
}

#[track_caller]
fn assert_exact(counts: Counts) {
    assert_eq!(counts.emitted, counts.written + counts.dropped, "{counts:?}");
}

enum Do {
    Log,
    Advance(Duration),
    Jump(&'static str),
    Restart,
}

/// A line of these tests has 49 bytes: `2026-11-21T12:00:00.000000Z  INFO logging: line x`.
#[track_caller]
fn check_rotation(
    what: &str,
    max_bytes: u64,
    daily: bool,
    script: &[Do],
    expected: &[(&str, usize)],
) {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock("2026-11-21T12:00:00Z");
    let build = || builder(folder.path(), &clock).max_bytes(max_bytes).daily(daily);
    let mut running = Some(start(build().retention(Retention::keep_all())));
    for act in script {
        match act {
            Do::Log => tracing::info!("line x"),
            Do::Advance(by) => clock.advance(*by),
            Do::Jump(to) => clock.jump_to(to.parse().unwrap()),
            Do::Restart => {
                drop(running.take());
                running = Some(start(build().retention(Retention::keep_all())));
            }
        }
    }
    let counts = running.as_ref().unwrap().0.counts();
    assert_exact(counts);
    assert_eq!(counts.dropped, 0, "{what}");
    let got: Vec<_> = files(folder.path()).into_iter().map(|(n, l)| (n, l.len())).collect();
    let got: Vec<_> = got.iter().map(|(name, lines)| (name.as_str(), *lines)).collect();
    assert_eq!(got, expected, "{what}");
}

#[test]
fn a_file_begins_by_size_or_by_day_whichever_is_first() {
    use Do::*;
    let (a1, a2) = ("app-2026-11-21.000001.log", "app-2026-11-21.000002.log");
    check_rotation("one file", 1000, true, &[Log, Log], &[(a1, 2)]);
    check_rotation("size", 110, true, &[Log, Log, Log], &[(a1, 2), (a2, 1)]);
    check_rotation("a line larger than a file", 10, true, &[Log, Log], &[(a1, 1), (a2, 1)]);
    let b2 = "app-2026-11-22.000002.log";
    check_rotation("day", 1000, true, &[Log, Advance(DAY), Log, Log], &[(a1, 1), (b2, 2)]);
    check_rotation("not daily", 1000, false, &[Log, Advance(DAY), Log], &[(a1, 2)]);
    check_rotation(
        "both",
        110,
        true,
        &[Log, Log, Log, Advance(DAY), Log, Log, Log],
        &[(a1, 2), (a2, 1), ("app-2026-11-22.000003.log", 2), ("app-2026-11-22.000004.log", 1)],
    );
    check_rotation(
        "the clock a little back over midnight and forth again",
        1000,
        true,
        &[
            Log,
            Advance(DAY),
            Log,
            Jump("2026-11-21T23:59:59Z"),
            Log,
            Jump("2026-11-22T00:00:01Z"),
            Log,
        ],
        &[(a1, 1), (b2, 3)],
    );
    check_rotation(
        "the clock once far ahead",
        1000,
        true,
        &[Log, Jump("2099-01-01T00:00:00Z"), Log, Jump("2026-11-21T12:00:01Z"), Log],
        &[(a1, 1), ("app-2026-11-21.000003.log", 1), ("app-2099-01-01.000002.log", 1)],
    );
    check_rotation("a restart goes on", 1000, true, &[Log, Restart, Log], &[(a1, 2)]);
    check_rotation(
        "a restart with a full file",
        50,
        true,
        &[Log, Restart, Log],
        &[(a1, 1), (a2, 1)],
    );
    check_rotation(
        "a restart on another day",
        1000,
        true,
        &[Log, Restart, Advance(DAY), Restart, Log],
        &[(a1, 1), (b2, 1)],
    );
}

#[test]
fn a_half_line_of_an_earlier_run_is_closed_first() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app-2026-11-21.000007.log"), "whole\nhal").unwrap();
    let (guard, _default) = start(builder(folder.path(), &clock("2026-11-21T12:00:00Z")));
    tracing::info!("next");
    let lines = lines(folder.path());
    assert_eq!(lines[..2], ["whole", "hal"]);
    assert!(lines[2].ends_with("logging: next"), "{lines:?}");
    assert_eq!(guard.counts().written, 1);
}

#[test]
fn retention_removes_what_is_old_and_never_a_sibling() {
    let folder = tempfile::tempdir().unwrap();
    let siblings = [
        "app.log",
        "app-2026-01-01.log",
        "app-2026-01-01.000001.log.gz",
        "app-2026-01-01.000001.log.bak",
        "app-web-2026-01-01.000001.log",
        "apple-2026-01-01.000001.log",
        "app-2026-01-01.1.log",
    ];
    for name in siblings {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("app-2026-01-01.000002.log")).unwrap();
    let target = folder.path().join("app.log");
    std::os::unix::fs::symlink(&target, folder.path().join("app-2026-01-02.000003.log")).unwrap();
    // Of a process that has ended, and of an earlier run.
    fs::write(folder.path().join("app.p999999999-2026-01-01.000001.log"), "").unwrap();
    fs::write(folder.path().join("app-2026-01-01.000004.log"), "").unwrap();

    let clock = clock("2026-11-21T12:00:00Z");
    let (guard, _default) = start(builder(folder.path(), &clock).keep_days(2).keep_files(3));
    // Of somebody who is still at work: not ours, however old.
    let (_layer, other) = builder(folder.path(), &clock)
        .retention(Retention::keep_all())
        .layer::<tracing_subscriber::Registry>()
        .unwrap();
    let of_another = other.active_file().unwrap();
    for _ in 0..4 {
        tracing::info!("a day");
        clock.advance(DAY);
    }
    tracing::info!("the last day");
    assert_exact(guard.counts());
    let mut expected: Vec<_> = siblings.map(str::to_owned).into();
    expected.extend((23..=25).map(|day| format!("app-2026-11-{day}.{:06}.log", day - 16)));
    expected.push(of_another.file_name().unwrap().to_str().unwrap().to_owned());
    expected.sort();
    let mut got = names(folder.path());
    got.sort();
    assert_eq!(got, expected);
    assert!(folder.path().join("app-2026-01-01.000002.log").is_dir());
    assert!(folder.path().join("app-2026-01-02.000003.log").is_symlink());
}

#[test]
fn total_size_is_kept_and_the_open_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock("2026-11-21T12:00:00Z");
    let settings = builder(folder.path(), &clock).max_bytes(60).keep_total_bytes(120);
    let (guard, _default) = start(settings);
    for _ in 0..20 {
        tracing::info!("line x");
    }
    assert_eq!(guard.counts().written, 20);
    // Swept when the newest file was still empty: two closed ones of 49 bytes and it.
    assert_eq!(names(folder.path()), [18, 19, 20].map(|n| format!("app-2026-11-21.{n:06}.log")),);
}

#[test]
fn no_value_forges_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let forged = "x\n2026-11-21T12:00:00.000000Z ERROR app: forged\r\u{1b}[2K\u{2028}";
    for format in [Format::Human, Format::Json] {
        let prefix = format!("{format:?}");
        let (guard, _default) = start(
            builder(folder.path(), &clock("2026-11-21T12:00:00Z"))
                .file_prefix(&prefix)
                .format(format),
        );
        let span = tracing::info_span!("request", user = forged, late = tracing::field::Empty);
        span.record("late", forged);
        span.in_scope(|| {
            tracing::info!(field = forged, shown = %forged, debug = ?forged, "{forged}");
        });
        let text = fs::read_to_string(guard.active_file().unwrap()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{2028}']), "{text:?}");
        assert_eq!(text.matches("forged").count(), 6);
    }
}

#[test]
fn no_secret_reaches_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let canary = "c4n4ry-\"quoted\"-value-0123456789";
    for format in [Format::Human, Format::Json] {
        let redactor = Redactor::default();
        let prefix = format!("{format:?}");
        let (guard, _default) = start(
            builder(folder.path(), &clock("2026-11-21T12:00:00Z"))
                .file_prefix(&prefix)
                .format(format)
                .redactor(redactor.clone()),
        );
        let span = tracing::info_span!("login", token = canary, late = tracing::field::Empty);
        // Learnt after the span began, as a secret is that was just fetched.
        redactor.add(&Secret::new(canary));
        span.record("late", canary);
        let error = std::io::Error::other(format!("bad token {canary}"));
        span.in_scope(|| {
            tracing::info!(
                field = canary,
                shown = %format!("a {canary} b"),
                debug = ?canary,
                json = %serde_json::json!({"token": canary}),
                error = &error as &(dyn std::error::Error + 'static),
                "message with {canary}"
            );
        });
        let text = fs::read_to_string(guard.active_file().unwrap()).unwrap();
        assert!(!text.contains("c4n4ry"), "{text}");
        assert!(!text.contains("value-0123456789"), "{text}");
        assert_eq!(text.matches("[redacted]").count(), 8, "{text}");
    }
}

#[test]
fn a_file_that_is_deleted_moved_or_truncated_is_noticed_within_a_second() {
    type Disturb = fn(&Path);
    let cases: [(&str, Disturb, &str, &str); 4] = [
        ("deleted", |file| fs::remove_file(file).unwrap(), "log_file_gone", "000001"),
        (
            "moved",
            |file| fs::rename(file, file.with_extension("moved")).unwrap(),
            "log_file_gone",
            "000001",
        ),
        (
            "folder deleted",
            |file| fs::remove_dir_all(file.parent().unwrap()).unwrap(),
            "log_file_gone",
            "000001",
        ),
        (
            "truncated",
            |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap(),
            "log_file_truncated",
            "000001",
        ),
    ];
    for (what, disturb, notice, file) in cases {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("logs");
        let clock = clock("2026-11-21T12:00:00Z");
        let (guard, _default) = start(builder(&folder, &clock));
        tracing::info!("before");
        disturb(&guard.active_file().unwrap());
        clock.advance(Duration::from_secs(1));
        tracing::info!("after");
        let text = fs::read_to_string(guard.active_file().unwrap()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{what}: {text}");
        assert!(lines[0].contains(&format!("{notice} file=app-2026-11-21.{file}.log")), "{text}");
        assert!(lines[1].ends_with("after"), "{what}: {text}");
        assert_eq!(guard.counts().written, 2, "{what}");
    }
}

/// A file system of this size, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, options: &str) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder)
            .output()
            .expect("`mount` can be started");
        assert!(
            mounted.status.success(),
            "this test needs the right to mount a tmpfs: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn a_full_disk_loses_lines_exactly_and_says_so_afterwards() {
    let parent = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(parent.path(), "size=64k");
    let clock = clock("2026-11-21T12:00:00Z");
    let (guard, default) = start(builder(&disk.0, &clock));
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 40 * 1024]).unwrap();
    let mut emitted = 0_u64;
    while guard.counts().dropped < 50 {
        assert!(emitted < 10_000, "the disk never filled up");
        tracing::info!(emitted, "a line that is not short, so that the disk is full soon");
        clock.advance(Duration::from_millis(10));
        emitted += 1;
        assert_exact(guard.counts());
    }
    fs::remove_file(&filler).unwrap();
    clock.advance(Duration::from_millis(200));
    tracing::info!("again");
    drop(default);
    let counts = guard.counts();
    assert_eq!((counts.emitted, counts.dropped), (emitted + 1, 50));
    let lines = lines(&disk.0);
    let (told, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.contains("lines_lost="));
    assert_eq!(rest.len() as u64, counts.written, "each line that counts as written is there");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("lines_lost=50 from=2026-11-21T12:00:"), "{}", told[0]);
    assert!(told[0].contains("No space left on device"), "{}", told[0]);
    assert!(rest.last().unwrap().ends_with("again"));
    drop(guard);
    drop(disk);
}

#[test]
fn a_new_file_that_cannot_begin_does_not_lose_a_line() {
    let parent = tempfile::tempdir().unwrap();
    // The root, the lock and one file: there is room for lines, but not for another file.
    let disk = SmallDisk::mount(parent.path(), "size=1m,nr_inodes=3");
    let clock = clock("2026-11-21T12:00:00Z");
    let (guard, default) = start(builder(&disk.0, &clock).max_bytes(60));
    for _ in 0..5 {
        tracing::info!("line x");
        clock.advance(Duration::from_secs(2));
    }
    assert_eq!(guard.counts(), {
        let mut counts = Counts::default();
        (counts.emitted, counts.written) = (5, 5);
        counts
    });
    assert_eq!(lines(&disk.0).len(), 5);
    assert_eq!(names(&disk.0).len(), 1);
    drop((guard, default));
    drop(disk);
}

const CHILD: &str = "OPS_LOGGING_TEST_CHILD";

#[test]
fn two_processes_at_once_write_files_of_their_own() {
    if let Ok(folder) = std::env::var(CHILD) {
        let (layer, guard) = Logging::builder().directory(folder).layer().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for n in 0..500 {
                tracing::info!(n, "from the child");
            }
        });
        assert_eq!(guard.counts().written, 500);
        // Dies without a goodbye, with its lock file left.
        std::mem::forget(guard);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (layer, guard) = Logging::builder().directory(folder.path()).layer().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "two_processes_at_once_write_files_of_their_own"])
        .env(CHILD, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..500 {
            tracing::info!(n, "from the parent");
        }
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(guard.counts().written, 500);
    for (name, lines) in files(folder.path()) {
        let whose = if name.starts_with("app-") { "parent" } else { "child" };
        assert!(whose == "parent" || name.starts_with(&format!("app.p{}-", child.id())), "{name}");
        assert!(lines.iter().all(|line| line.contains(&format!("from the {whose} n="))), "{name}");
        assert_eq!(lines.len(), 500, "{name}");
    }
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn threads_at_once_write_whole_lines_and_the_counts_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, guard) = Logging::builder()
        .directory(folder.path())
        .max_bytes(20_000)
        .format(Format::Json)
        .layer()
        .unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dispatch = &dispatch;
            scope.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || {
                    for n in 0..250 {
                        tracing::info!(thread, n, "one of many");
                    }
                });
            });
        }
    });
    assert_eq!(guard.counts().written, 2000);
    assert_exact(guard.counts());
    let mut seen = std::collections::BTreeSet::new();
    for (name, lines) in files(folder.path()) {
        assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= 20_000, "{name}");
        for line in lines {
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            let field = |name: &str| json["fields"][name].as_u64().unwrap();
            assert!(seen.insert((field("thread"), field("n"))), "twice: {line}");
        }
    }
    assert_eq!(seen.len(), 2000);
}

#[test]
fn a_value_may_log_while_it_is_formatted() {
    struct Chatty;
    impl std::fmt::Debug for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            tracing::info!("inner");
            f.write_str("chatty")
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (guard, _default) = start(builder(folder.path(), &clock("2026-11-21T12:00:00Z")));
    let span = tracing::info_span!("span", value = tracing::field::Empty);
    let _entered = span.enter();
    span.record("value", tracing::field::debug(Chatty));
    tracing::info!(value = ?Chatty, "outer");
    assert_exact(guard.counts());
    let lines = lines(folder.path());
    assert!(lines.last().unwrap().contains("span{value=chatty}: logging: outer value=chatty"));
}

#[test]
fn settings_are_refused_with_every_reason_at_once() {
    let error = Logging::builder()
        .file_prefix("../etc")
        .max_bytes(0)
        .keep_files(0)
        .filter("info,=[")
        .layer::<tracing_subscriber::Registry>()
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.reasons().len(), 5, "{error}");
    let text = error.to_string();
    for part in [
        "neither a directory nor a console",
        "\"../etc\"",
        "`max_bytes`",
        "`keep_files`",
        "`info,=[`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_second_install_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = Logging::builder().directory(folder.path()).install();
    let second = Logging::builder().directory(folder.path()).install().unwrap_err();
    assert!(first.is_ok());
    assert_eq!(second.kind(), ErrorKind::AlreadyInstalled);
    assert!(second.to_string().contains("install once"), "{second}");
}

#[test]
fn the_filter_is_the_layers_own() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock("2026-11-21T12:00:00Z");
    let (guard, _default) = start(builder(folder.path(), &clock).filter("warn,special=debug"));
    tracing::info!("no");
    tracing::warn!("yes");
    tracing::debug!(target: "special", "yes");
    assert_eq!(guard.counts().emitted, 2);
}

#[test]
fn what_was_logged_before_a_kill_is_there_and_the_next_run_goes_on() {
    use std::io::{BufRead as _, BufReader};

    if let Ok(folder) = std::env::var(CHILD) {
        // The console comes after the file: what the parent reads was written.
        let console = ops_logging::Console::Stderr;
        let (layer, _guard) =
            Logging::builder().directory(folder).console(console).layer().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            // Ends by the kill; the bound is for a parent that died first.
            for n in 0..1_000_000_u64 {
                tracing::info!(n, "alive");
            }
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_logged_before_a_kill_is_there_and_the_next_run_goes_on"])
        .arg("--nocapture")
        .env(CHILD, folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let logged = said.by_ref().map_while(Result::ok).filter(|line| line.contains("alive n="));
    let logged = logged.take(200).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(logged, 200, "the child ended too early");
    let before = lines(folder.path());
    assert!(before.len() >= 200, "{}", before.len());
    for (n, line) in before.iter().enumerate() {
        assert!(line.ends_with(&format!("alive n={n}")), "{line}");
    }
    let (layer, guard) = Logging::builder().directory(folder.path()).layer().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!("after");
    });
    assert_eq!(guard.counts().written, 1);
    assert!(lines(folder.path()).last().unwrap().ends_with("after"));
    assert_eq!(names(folder.path()).len(), 1, "the same file");
}
