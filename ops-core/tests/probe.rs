//! Probes against real servers and programs, the hostile ones too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "probe/gate.rs"]
mod gate;
#[path = "probe/http.rs"]
mod http;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ops_core::probe::{AllOf, CommandProbe, FnProbe, Health, Probe, TcpProbe, observe};
use ops_core::process::Command;
use tokio::net::TcpListener;
use tokio::sync::Barrier;

/// No answer takes this long, unless a probe hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// An address on which nothing listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[track_caller]
fn assert_is(health: &Health, expected: &str) {
    let said = health.to_string();
    assert!(said.contains(expected), "`{said}` does not say `{expected}`");
    assert_eq!(said.split(':').next(), expected.split(':').next());
}

#[tokio::test]
async fn tcp_tells_who_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpProbe::new(listener.local_addr().unwrap().to_string());
    assert_eq!(observe(&there, PATIENCE).await.health, Health::Healthy);
    for (address, expected) in [
        (nobody().await, "unhealthy: nothing listens on 127.0.0.1:"),
        ("127.0.0.1".into(), "unknown: cannot connect to 127.0.0.1: "),
        ("127.0.0.1:99999".into(), "unknown: cannot connect to 127.0.0.1:99999: "),
        ("no-such-host.invalid:1".into(), "unknown: cannot connect to no-such-host.invalid:1: "),
    ] {
        assert_is(&observe(&TcpProbe::new(address), PATIENCE).await.health, expected);
    }
}

#[tokio::test]
async fn commands_answer_by_their_exit_code() {
    let sh = |script: &str| CommandProbe::new("test", Command::new("sh").args(["-c", script]));
    for (script, expected) in [
        ("exit 0", "healthy"),
        (
            "echo 'DISK CRITICAL: full'; echo more; exit 1",
            "unhealthy: exit code 1: DISK CRITICAL: full",
        ),
        ("exit 2", "unhealthy: exit code 2"),
        ("exit 3", "unknown: exit code 3"),
        ("exit 126", "unknown: exit code 126"),
        ("kill -9 $$", "unknown: ended by signal 9"),
        // More than a pipe holds, which nobody reads.
        ("head -c 1000000 /dev/zero; exit 0", "healthy"),
        // A child that stays and holds the output.
        ("sleep 1000 & exit 0", "healthy"),
    ] {
        let seen = observe(&sh(script), PATIENCE).await;
        assert_is(&seen.health, expected);
    }
    let missing = CommandProbe::new("test", Command::new("/no/such/program"));
    let expected = "unknown: the program `/no/such/program` is not found";
    assert_is(&observe(&missing, PATIENCE).await.health, expected);
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("pids");
    let script = "sleep 1000 & echo $! >\"$1\"; echo $$ >>\"$1\"; wait";
    let command = Command::new("sh").args(["-c", script, "sh"]).arg(&list);
    let hangs = CommandProbe::new("test", command);
    let seen = observe(&hangs, Duration::from_secs(1)).await;
    assert_is(&seen.health, "unknown: no answer within 1s");
    let pids = std::fs::read_to_string(&list).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    assert_gone(&pids).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_is_ended() {
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!; exit 1";
    let leaves = CommandProbe::new("test", Command::new("sh").args(["-c", script]));
    let Health::Unhealthy { reason } = observe(&leaves, PATIENCE).await.health else { panic!() };
    assert_gone(reason.rsplit(' ').next().unwrap()).await;
}

/// Waits until none of these processes runs.
async fn assert_gone(pids: &str) {
    let until = Instant::now() + PATIENCE;
    for pid in pids.lines() {
        while running(pid) {
            assert!(Instant::now() < until, "process {pid} goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Whether a process runs: one that ended and was not waited for does not.
fn running(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

#[tokio::test(start_paused = true)]
async fn silence_and_panic_are_unknown() {
    let silent = FnProbe::new("silent", futures::future::pending);
    let seen = observe(&silent, PATIENCE).await;
    assert_is(&seen.health, "unknown: no answer within 20s");
    assert_eq!((seen.latency.as_secs(), seen.probe.as_str()), (20, "silent"));
    let json = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<ops_core::probe::Observation>(&json).unwrap(), seen);
    assert!(json.contains(r#""health":"unknown","reason":"no answer"#), "{json}");

    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let late = FnProbe::new("late", || async { panic!("a bug") });
    let late = observe(&late, PATIENCE).await;
    let early = observe(&Early, PATIENCE).await;
    std::panic::set_hook(hook);
    for seen in [late, early] {
        assert_is(&seen.health, "unknown: the probe panicked");
    }
}

/// Panics before it has a future.
#[derive(Debug)]
struct Early;

impl Probe for Early {
    fn name(&self) -> &'static str {
        "early"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        panic!("a bug")
    }
}

fn says(name: &'static str, health: Health) -> FnProbe {
    FnProbe::new(name, move || futures::future::ready(health.clone()))
}

#[tokio::test]
async fn all_of_is_as_bad_as_its_worst() {
    let (good, bad, none) =
        (Health::Healthy, Health::unhealthy("it is full"), Health::unknown("it is silent"));
    let cases = [
        (vec![], "unknown: there is no probe to ask"),
        (vec![("a", &good), ("b", &good)], "healthy"),
        (vec![("a", &good), ("b", &none)], "unknown: b is unknown: it is silent"),
        (
            vec![("a", &none), ("b", &bad), ("c", &bad)],
            "unhealthy: b is unhealthy: it is full; c is unhealthy: it is full",
        ),
    ];
    for (probes, expected) in cases {
        let mut all = AllOf::new("all", PATIENCE);
        for (name, health) in probes {
            all = all.probe(says(name, health.clone()));
        }
        assert_is(&all.check().await, expected);
    }
}

#[tokio::test]
async fn all_of_asks_in_parallel_under_one_deadline() {
    // Each waits for all the others: one after the other, none would ever answer.
    let meeting = Arc::new(Barrier::new(20));
    let mut all = AllOf::new("all", PATIENCE);
    for number in 0..20 {
        let meeting = meeting.clone();
        all = all.probe(FnProbe::new(format!("probe {number}"), move || {
            let meeting = meeting.clone();
            async move {
                meeting.wait().await;
                Health::Healthy
            }
        }));
    }
    assert_eq!(all.check().await, Health::Healthy);
    let names: Vec<_> = all.observe_each().await.into_iter().map(|seen| seen.probe).collect();
    assert_eq!(names[..2], ["probe 0", "probe 1"], "in the order in which they were added");
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_for_their_turn_share_the_deadline() {
    let started = tokio::time::Instant::now();
    let mut all = AllOf::new("all", Duration::from_secs(3));
    for _ in 0..100 {
        all = all.probe(FnProbe::new("slow", || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Health::Healthy
        }));
    }
    let seen = all.observe_each().await;
    assert_eq!(started.elapsed().as_secs(), 3, "not as long as one after the other");
    let healthy = seen.iter().filter(|seen| seen.health.is_healthy()).count();
    assert!((64..=96).contains(&healthy), "{healthy}: what did not get its turn is unknown");
    assert_eq!(seen.len(), 100);
}

#[test]
fn probes_are_objects_that_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Arc<dyn Probe>>();
    shared::<AllOf>();
    let now = std::pin::pin!(says("x", Health::Healthy)).check().now_or_never();
    assert_eq!(now, Some(Health::Healthy));
}
