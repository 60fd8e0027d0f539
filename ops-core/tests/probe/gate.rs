//! The gate: healthy answers in a row, a deadline, a cancellation.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ops_core::SystemClock;
use ops_core::probe::{FnProbe, GateFailure, Health, Observation, Requirement, await_healthy};
use tokio_util::sync::CancellationToken;

/// Asks a probe that gives these answers, one after the other: `+` healthy, `-` unhealthy,
/// `?` unknown, `.` none at all; the last one for ever.
async fn gate(
    answers: &'static str,
    requirement: &Requirement,
    cancel: &CancellationToken,
) -> (Result<Observation, GateFailure>, usize) {
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let probe = FnProbe::new("shop", move || {
        let index = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        async move {
            match answers.as_bytes()[index] {
                b'+' => Health::Healthy,
                b'-' => Health::unhealthy("old release"),
                b'?' => Health::unknown("no data"),
                _ => futures::future::pending().await,
            }
        }
    });
    let ended = await_healthy(&probe, requirement, &SystemClock::new(), cancel).await;
    (ended, asked.load(Ordering::SeqCst))
}

fn quick() -> Requirement {
    Requirement::new()
        .interval(Duration::from_millis(1))
        .answer_within(Duration::from_millis(20))
        .deadline(Duration::from_millis(400))
}

#[tokio::test]
async fn it_opens_after_healthy_answers_in_a_row() {
    for (answers, consecutive, expected) in [
        ("+", 0, 1),
        ("+", 1, 1),
        ("+", 3, 3),
        ("-+", 3, 4),
        ("++-+", 3, 6),
        ("++?+", 3, 6),
        (".+", 2, 3),
    ] {
        let cancel = CancellationToken::new();
        let requirement = quick().consecutive(consecutive).deadline(super::PATIENCE).answer_within(
            // Generous where an answer comes, so that a busy machine is no failure.
            if answers.contains('.') { Duration::from_millis(200) } else { super::PATIENCE },
        );
        let (opened, asked) = gate(answers, &requirement, &cancel).await;
        assert!(opened.is_ok(), "{answers}: {opened:?}");
        assert_eq!(asked, expected, "{answers}");
    }
}

#[tokio::test]
async fn it_stays_shut_and_says_what_it_saw_last() {
    for (answers, expected) in [
        ("-", "the gate did not open in time; last, shop is unhealthy: old release (after "),
        ("?", "the gate did not open in time; last, shop is unknown: no data (after "),
        (".", "the gate did not open in time; last, shop is unknown: no answer within "),
        ("+-+-+-+-+-", "the gate did not open in time; last, shop is unhealthy: old release"),
    ] {
        let (shut, _) = gate(answers, &quick(), &CancellationToken::new()).await;
        let shut = shut.unwrap_err();
        assert!(!shut.cancelled);
        assert!(shut.to_string().starts_with(expected), "{answers}: {shut}");
    }
    let never = quick().deadline(Duration::ZERO);
    assert!(gate(".", &never, &CancellationToken::new()).await.0.is_err());
}

#[tokio::test]
async fn a_cancellation_ends_it_while_it_asks_and_while_it_waits() {
    let forever = Requirement::new().deadline(Duration::MAX).answer_within(Duration::MAX);
    for (answers, interval) in [(".", Duration::ZERO), ("-", Duration::from_hours(1))] {
        let cancel = CancellationToken::new();
        let requirement = forever.clone().interval(interval);
        let ask = gate(answers, &requirement, &cancel);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel();
        };
        let ((shut, _), ()) =
            tokio::time::timeout(super::PATIENCE, futures::future::join(ask, stop)).await.unwrap();
        let shut = shut.unwrap_err();
        assert!(shut.cancelled, "{answers}: {shut}");
        assert!(shut.to_string().starts_with("the gate was cancelled"), "{shut}");
    }
}
