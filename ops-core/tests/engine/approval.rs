//! Nothing destructive, and nothing in production, without an approval that fits.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{
    ApprovalRequest, ApproveDigest, ApproveIf, Approver, Context, Decision, Environment, ErrorKind,
    ManualClock, Outcome, Plan, run,
};

use crate::board::{Board, Kind, abc, approving, builder, set};

fn destroying(board: &Board) -> Plan {
    Plan::new("drop").change(board, &set("a", Kind::Destroys)).unwrap()
}

#[tokio::test]
async fn the_default_context_approves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cx = Context::new(dir.path());
    let board = Board::new("one");
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("`abc` needs an approval in production"), "{error}");
    assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }));
    let looks = Plan::new("look").change(&board, &set("a", Kind::Reads)).unwrap();
    cx.execute(looks, &&board).await.unwrap();
    assert_eq!(board.calls(), "run a", "looking needs none");
}

#[tokio::test]
async fn what_destroys_needs_one_everywhere() {
    for environment in Environment::ALL {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new("one");
        let cx = builder(dir.path()).environment(environment).build();
        let error = cx.execute(destroying(&board), &&board).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{environment}");
        let cx = approving(dir.path()).environment(environment).build();
        let report = cx.execute(destroying(&board), &&board).await.unwrap();
        assert_eq!(report.approved_by.as_deref(), Some("the test"));
    }
}

#[tokio::test]
async fn an_approved_digest_fits_that_plan_only() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let plan = destroying(&board);
    let approver = ApproveDigest::new(plan.digest(), "ann");
    let cx = builder(dir.path()).approver(approver).build();
    let moved = destroying(&board).fact("moved", true);
    let error = cx.execute(moved, &&board).await.unwrap_err();
    assert!(error.to_string().contains("the plan is not the one that was approved"), "{error}");
    assert_eq!(cx.execute(plan, &&board).await.unwrap().approved_by.as_deref(), Some("ann"));
}

#[tokio::test]
async fn an_approval_expires() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let cx = approving(dir.path()).clock(clock.clone()).build();
    let approved = cx.approve(destroying(&board), &&board).await.unwrap();
    clock.advance(ops_core::approval::VALID_FOR + Duration::from_secs(1));
    let error = run(approved, &&board, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("the approval by `the test` expired"), "{error}");
    assert_eq!(board.calls(), "");
}

#[tokio::test]
async fn an_approval_of_another_environment_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let staging = approving(dir.path()).build();
    let approved = staging.approve(abc(&board), &&board).await.unwrap();
    let production = approving(dir.path()).environment(Environment::Production).build();
    let error = run(approved, &&board, &production).await.unwrap_err();
    assert!(error.to_string().contains("approved for staging, this is production"), "{error}");
}

#[tokio::test]
async fn a_plan_that_lies_about_its_effect_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let mut json = serde_json::to_value(destroying(&board)).unwrap();
    json["changes"][0]["effect"]["kind"] = "reads".into();
    let forged: Plan = serde_json::from_value(json).unwrap();
    let cx = builder(dir.path()).build();
    let error = cx.approve(forged, &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plan);
    assert!(error.to_string().contains("but it destroys `set a to new`"), "{error}");
}

#[tokio::test]
async fn around_the_guard_there_is_one_way_and_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let cx = Context::new(dir.path());
    let approved = cx.dangerous().approve_unasked(destroying(&board), &&board, "ann").unwrap();
    let report = run(approved, &&board, &cx).await.unwrap();
    assert_eq!(report.approved_by.as_deref(), Some("ann (unasked)"));
}

/// One that has gone to lunch; it says when it was asked.
#[derive(Debug, Clone, Default)]
struct Absent(Arc<tokio::sync::Notify>);

impl Approver for Absent {
    fn decide<'a>(
        &'a self,
        _: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, ops_core::Error>> {
        async {
            self.0.notify_one();
            std::future::pending().await
        }
        .boxed()
    }
}

#[tokio::test]
async fn an_approver_who_does_not_answer_is_waited_for_until_a_cancellation_or_the_deadline() {
    for (cancels, says) in [(true, "was cancelled"), (false, "nobody has answered within 600s")] {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new("one");
        let (absent, clock) = (Absent::default(), ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let cx = builder(dir.path())
            .approver(absent.clone())
            .clock(clock.clone())
            .deadline(Duration::from_mins(10))
            .build();
        let world = &board;
        let asked = async {
            absent.0.notified().await;
            if cancels {
                cx.cancellation().cancel();
            } else {
                clock.advance(Duration::from_mins(10));
            }
        };
        let both = futures::future::join(cx.execute(destroying(&board), &world), asked);
        let (ended, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(says), "{error}");
        assert!(matches!(error.report().unwrap().outcome, Outcome::Refused { .. }));
        assert_eq!(board.calls(), "");
    }
}

#[tokio::test]
async fn a_policy_reads_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("one");
    let policy = ApproveIf::new("policy", |request: &ops_core::ApprovalRequest<'_>| {
        request.plan.steps().count() == 1
    });
    let cx = Context::builder(dir.path()).approver(policy).build();
    cx.execute(abc(&board), &&board).await.unwrap_err();
    cx.execute(destroying(&board), &&board).await.unwrap();
}

#[test]
fn a_plan_prints_as_a_dry_run() {
    let board = Board::new("one");
    let plan = abc(&board)
        .change(&board, &set("kept", Kind::Retained))
        .unwrap()
        .version("1a2b3c4".parse().unwrap())
        .fact("from", "0000000");
    let text = plan.to_string().replace(plan.digest().as_str(), "DIGEST");
    insta::assert_snapshot!(text, @r"
    abc 1a2b3c4
      from: 0000000
      changes
        1. changes  set a to new
        2. changes  set b to new
        3. changes  set c to new
        4. stays    set kept to new
      after the commit
        5. changes  set tidy to new
      stays, even when the operation goes back
           set kept to new
      digest DIGEST
    ");
}

#[test]
fn a_digest_does_not_depend_on_the_order_of_keys() {
    let board = Board::new("one");
    let plan = abc(&board).fact("b", 1).fact("a", 2);
    let json = serde_json::to_string(&plan).unwrap();
    let back: Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.digest(), plan.digest());
    assert_ne!(abc(&board).digest(), plan.digest());
}
