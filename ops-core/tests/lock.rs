//! Locks between real processes: this test binary starts itself again as the holders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ops_core::lock::{Attempt, Holder, Lock};
use ops_core::{ErrorKind, OperationId};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const ROLE: &str = "OPS_CORE_TEST_LOCK_HOLDER";
const DEADLINE: Duration = Duration::from_secs(30);

/// The other side of every test here: does what it is told over its standard input. Without the
/// variable it is a test like any other, of a holder that is told nothing.
#[test]
fn holder_process() {
    let Ok(path) = std::env::var(ROLE) else {
        let dir = tempfile::tempdir().unwrap();
        let me = Holder::this_process("nobody", Timestamp::now());
        let Attempt::Acquired(lock) = Lock::try_acquire(&dir.path().join("lock"), &me).unwrap()
        else {
            panic!("nobody else knows this lock");
        };
        lock.release().unwrap();
        return;
    };
    let mut held = None;
    let mut children = Vec::new();
    for line in std::io::stdin().lines() {
        let answer = match line.unwrap().split_once(' ').unwrap() {
            ("take", operation) => {
                let mut me = Holder::this_process("holder", Timestamp::now());
                if operation != "-" {
                    me = me.operation(operation.parse().unwrap(), "/journals/one.jsonl");
                }
                match Lock::try_acquire(Path::new(&path), &me).unwrap() {
                    Attempt::Acquired(lock) => {
                        held = Some(lock);
                        "acquired".to_owned()
                    }
                    Attempt::Held(holder) => format!("held {}", holder.pid),
                }
            }
            ("release", _) => {
                held.take().unwrap().release().unwrap();
                "released".to_owned()
            }
            ("child", seconds) => {
                children.push(Command::new("sleep").arg(seconds).spawn().unwrap());
                format!("child {}", children[children.len() - 1].id())
            }
            other => panic!("{other:?}"),
        };
        // The test harness has captured `println!`.
        writeln!(std::io::stdout(), "@{answer}").unwrap();
    }
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

struct Other {
    child: Child,
    stdin: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, answers) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The harness's own words may stand before ours on the line.
                let Some((_, answer)) = line.split_once('@') else { continue };
                if send.send(answer.to_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, answers }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    fn hear(&self) -> String {
        self.answers.recv_timeout(DEADLINE).expect("the other process answers within 30 s")
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.hear()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn me() -> Holder {
    Holder::this_process("tester", Timestamp::now())
}

fn take(path: &Path) -> Attempt {
    Lock::try_acquire(path, &me()).unwrap()
}

#[test]
fn of_two_processes_one_wins_a_thousand_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/site.lock");
    let mut others = [Other::start(&path), Other::start(&path)];
    let mut wins = [0_u32; 2];
    for round in 0..1000 {
        // Both are told before either is heard, and now this one, now that one first.
        let first = round % 2;
        others[first].tell("take -");
        others[1 - first].tell("take -");
        let answers = [others[0].hear(), others[1].hear()];
        let winner = match answers.each_ref().map(|answer| answer == "acquired") {
            [true, false] => 0,
            [false, true] => 1,
            _ => panic!("round {round}: {answers:?}"),
        };
        let expected = format!("held {}", others[winner].pid());
        assert_eq!(answers[1 - winner], expected, "round {round}: the loser names the winner");
        assert_eq!(others[winner].ask("release -"), "released");
        wins[winner] += 1;
    }
    assert!(wins.iter().all(|wins| *wins > 0), "both must have had a chance: {wins:?}");
}

#[test]
fn a_stopped_holder_keeps_the_lock_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.lock");
    let operation = OperationId::generate();
    let before = Timestamp::now();
    let mut other = Other::start(&path);
    assert_eq!(other.ask(&format!("take {operation}")), "acquired");
    other.signal(Signal::STOP);
    let stopped = waitpid(Some(Pid::from_child(&other.child)), WaitOptions::UNTRACED);
    assert!(stopped.unwrap().unwrap().1.stopped());

    for _ in 0..10 {
        let Attempt::Held(holder) = take(&path) else { panic!("taken from the living") };
        assert_eq!(holder.pid, other.pid());
        assert_eq!(holder.operation, Some(operation));
        assert_eq!(holder.journal.as_deref(), Some(Path::new("/journals/one.jsonl")));
        assert!(holder.since >= before && holder.since <= Timestamp::now());
        let named = format!("`holder`, pid {}, operation {operation}, since ", other.pid());
        assert!(holder.to_string().starts_with(&named), "{holder}");
    }

    other.signal(Signal::CONT);
    assert_eq!(other.ask("release -"), "released");
    let Attempt::Acquired(lock) = take(&path) else { panic!("it was released") };
    assert_eq!(lock.left_behind(), None);
}

#[test]
fn a_killed_holder_frees_the_lock_and_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.lock");
    let operation = OperationId::generate();
    let mut first = Other::start(&path);
    assert_eq!(first.ask(&format!("take {operation}")), "acquired");
    // A child of the holder that lives on must not keep the lock.
    let child = first.ask("child 60").strip_prefix("child ").unwrap().parse::<i32>().unwrap();
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    let child = Pid::from_raw(child).unwrap();
    assert!(rustix::process::test_kill_process(child).is_ok(), "the child outlives the holder");

    // The second dies as well, before it has cleared up after the first.
    let mut second = Other::start(&path);
    assert_eq!(second.ask("take -"), "acquired");
    second.signal(Signal::KILL);
    second.child.wait().unwrap();

    let Attempt::Acquired(lock) = take(&path) else { panic!("death frees a lock") };
    assert_eq!(lock.left_behind().unwrap().pid, second.pid());
    let dead: Vec<_> = lock.all_left_behind().iter().map(|dead| dead.pid).collect();
    assert_eq!(dead, [first.pid(), second.pid()]);
    let left = &lock.all_left_behind()[0];
    assert_eq!((left.operation, left.program.as_str()), (Some(operation), "holder"));
    kill_process(child, Signal::KILL).unwrap();

    lock.give_back().unwrap();
    let Attempt::Acquired(lock) = take(&path) else { panic!("it was given back") };
    let dead: Vec<_> = lock.all_left_behind().iter().map(|dead| dead.pid).collect();
    assert_eq!(dead, [first.pid(), second.pid()], "given back, it is as it was found");

    drop(lock);
    let Attempt::Acquired(lock) = take(&path) else { panic!("a drop frees it") };
    assert_eq!(lock.left_behind().unwrap().pid, std::process::id(), "a drop is no release");
    lock.release().unwrap();
    assert!(path.exists(), "the file stays");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[test]
fn a_holder_that_has_not_signed_yet_is_still_a_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.lock");
    // Between lock and signature the file bears the name of one that died.
    let dead = r#"{"format":1,"pid":4194305,"since":"2026-01-01T00:00:00Z","program":"dead"}"#;
    for content in ["", "{\"format\":1,\"pi", &format!("{dead}\n")] {
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let begun = Instant::now();
        let Attempt::Held(holder) = take(&path) else { panic!("{content:?}: it is held") };
        assert!(begun.elapsed() < Duration::from_secs(5), "it must not wait for the holder");
        let kernel_tells = holder.pid == std::process::id() && holder.program.is_empty();
        let nobody_tells = holder.pid == 0 || content.contains("dead");
        assert!(kernel_tells || nobody_tells, "{content:?}: {holder:?}");
    }
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.lock");
    let winners: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| take(&path))).collect();
        let attempts: Vec<_> = tries.into_iter().map(|t| t.join().unwrap()).collect();
        attempts.iter().filter(|attempt| matches!(attempt, Attempt::Acquired(_))).count()
    });
    assert_eq!(winners, 1, "the lock is held until all have tried");
}

#[test]
fn a_lock_file_that_was_deleted_does_not_make_two_holders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.lock");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::fs::remove_file(&path);
                std::thread::yield_now();
            }
        });
        for _ in 0..200 {
            // What counts: it neither fails nor spins for ever, and frees what it took.
            if let Attempt::Acquired(lock) = take(&path) {
                lock.release().unwrap();
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let Attempt::Acquired(lock) = take(&path) else { panic!("nobody holds it") };
    lock.release().unwrap();
}

#[test]
fn what_cannot_be_a_lock_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (link, newer) = (dir.path().join("link"), dir.path().join("newer"));
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
    let error = Lock::try_acquire(&link, &me()).unwrap_err();
    assert!(error.to_string().contains("it is a symbolic link"), "{error}");
    std::fs::write(&newer, "{\"format\":99}\n").unwrap();
    let error = Lock::try_acquire(&newer, &me()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(std::fs::read_to_string(&newer).unwrap().contains("99"), "it is not overwritten");
}
