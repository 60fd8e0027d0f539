//! The six outcomes, and what recovery makes of them.

use std::time::Duration;

use ops_core::operations::{self, Standing, Which};
use ops_core::{
    AbortReason, Class, Classify as _, Context, ErrorKind, Outcome, Plan, Refusal, Resource as _,
    StepStatus, journal::ResolvedState, recover,
};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Kind, Luck, abc, builder, set};

const NEW: &str = "a=new b=new c=new tidy=new";

fn scene() -> (tempfile::TempDir, Board, Context) {
    let dir = tempfile::tempdir().unwrap();
    let cx = builder(dir.path()).build();
    (dir, Board::new("one"), cx)
}

/// Drops an operation that hangs for ever in the second step.
async fn left_at<T: std::fmt::Debug>(run: impl Future<Output = T>, board: &Board) {
    tokio::select! {
        ended = run => panic!("it was to hang: {ended:?}"),
        () = board.called("run b") => {}
    }
}

fn open(cx: &Context) -> Vec<Standing> {
    let (operations, unreadable) = operations::list(cx, Which::Open).unwrap();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    operations.iter().map(|operation| operation.standing).collect()
}

#[tokio::test]
async fn completed() {
    let (_dir, board, cx) = scene();
    let report = cx.execute(abc(&board).fact("why", "a test"), &&board).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.event, "abc_success");
    assert_eq!(report.facts["why"], "a test");
    assert!(report.steps.iter().all(|step| step.status == StepStatus::Done));
    assert_eq!(board.cells(), NEW);
    assert!(open(&cx).is_empty());
    let (all, _) = operations::list(&cx, Which::All).unwrap();
    assert_eq!(all[0].standing, Standing::Completed);
    let (_, records) = operations::show(&cx, all[0].id).unwrap();
    // began, three times (intent, noted, done), committed, (finishing, noted, finished), closed.
    assert_eq!(records.len(), 1 + 9 + 1 + 3 + 1);
}

#[tokio::test]
async fn an_empty_plan_completes_without_a_journal() {
    let (dir, board, cx) = scene();
    let report = cx.execute(Plan::new("nothing"), &&board).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(!dir.path().join("journals").exists());
}

#[tokio::test]
async fn rolled_back_by_whatever_goes_wrong() {
    use AbortReason::{Cancelled, StepFailed};
    use Class::{Permanent, Temporary};
    for (luck, why, class, cause) in [
        (Luck::Fails, StepFailed, Permanent, "step `set` failed: `run c` has bad luck"),
        (Luck::FailsForNow, StepFailed, Temporary, "step `set` failed: not yet"),
        (Luck::Loses, StepFailed, Temporary, "step `set` failed: the answer was lost"),
        (
            Luck::Panics,
            StepFailed,
            Permanent,
            "step `set` failed: the step panicked: a bug in `run c`",
        ),
        (Luck::CancelsTheOperation, Cancelled, Temporary, "the operation was cancelled"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let cx = builder(dir.path()).cancellation(CancellationToken::new()).build();
        let board = Board::new("one");
        board.luck("run c", [luck]);
        let error = cx.execute(abc(&board), &&board).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::RolledBack, class), "{luck:?}");
        let report = error.report().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack { why, cause: cause.into(), class });
        assert_eq!(report.event, "abc_failure");
        assert_eq!(board.cells(), "", "{luck:?}");
        assert_eq!(board.calls(), "run a, run b, run c, undo c, undo b, undo a");
        assert!(open(&cx).is_empty());
    }
}

#[tokio::test]
async fn a_cancellation_ends_a_check_that_hangs_and_nothing_begins() {
    for luck in [Luck::Hangs, Luck::HangsForEver] {
        let dir = tempfile::tempdir().unwrap();
        let token = CancellationToken::new();
        let cx = builder(dir.path()).cancellation(token.clone()).build();
        let board = Board::new("one");
        board.luck("check b", [luck]);
        let cancel = async {
            board.called("check b").await;
            token.cancel();
        };
        let world = &&board;
        let (ended, ()) = tokio::join!(cx.execute(abc(&board), world), cancel);
        let error = ended.unwrap_err();
        let Outcome::Refused { reasons } = &error.report().unwrap().outcome else {
            panic!("{luck:?}: {error}");
        };
        assert_eq!(reasons.len(), 1, "{luck:?}");
        let why = match luck {
            Luck::Hangs => "step `set` cannot be checked: the step was asked to end",
            _ => "it was cancelled while step `set` was checked",
        };
        assert_eq!(reasons[0].reason, why);
        assert_eq!(board.calls(), "check b");
        assert!(open(&cx).is_empty());
    }
}

#[tokio::test]
async fn a_deadline_ends_a_step_that_hangs() {
    for (luck, cause) in [
        (Luck::Hangs, "the step was asked to end"),
        (Luck::HangsForEver, "the step did not end when it was asked to"),
    ] {
        let (_dir, board, cx) = scene();
        board.luck("run b", [luck]);
        let plan = abc(&board).within(Duration::from_millis(50));
        let error = cx.execute(plan, &&board).await.unwrap_err();
        let Outcome::RolledBack {
            cause: found,
            why: AbortReason::DeadlinePassed,
            class: Class::Temporary,
        } = &error.report().unwrap().outcome
        else {
            panic!("{error}");
        };
        assert_eq!(
            *found,
            format!("the operation's deadline has passed: step `set` failed: {cause}")
        );
        assert_eq!(board.cells(), "");
    }
}

#[tokio::test]
async fn what_only_reads_is_not_undone_and_what_is_retained_stays() {
    let (_dir, board, cx) = scene();
    board.luck("run z", [Luck::Fails]);
    let plan = Plan::new("mixed")
        .change(&board, &set("a", Kind::Changes))
        .and_then(|plan| plan.change(&board, &set("kept", Kind::Retained)))
        .and_then(|plan| plan.change(&board, &set("probe", Kind::Reads)))
        .and_then(|plan| plan.change(&board, &set("half", Kind::Retained)))
        .and_then(|plan| plan.change(&board, &set("z", Kind::Reads)))
        .unwrap();
    let error = cx.execute(plan, &&board).await.unwrap_err();
    assert_eq!(board.cells(), "half=new kept=new");
    assert_eq!(board.calls(), "run a, run kept, run probe, run half, run z, undo a");
    let status = &error.report().unwrap().steps;
    assert_eq!(status[0].status, StepStatus::Undone);
    assert_eq!(status[1].status, StepStatus::Done);
    assert_eq!(status[4].status, StepStatus::Failed);
}

#[tokio::test]
async fn a_retained_step_that_did_not_finish_clears_up_after_itself() {
    let (_dir, board, cx) = scene();
    board.luck("run half", [Luck::Fails]);
    let plan = Plan::new("half").change(&board, &set("half", Kind::Retained)).unwrap();
    cx.execute(plan, &&board).await.unwrap_err();
    assert_eq!(board.calls(), "run half, undo half");
    assert_eq!(board.cells(), "");
}

#[tokio::test]
async fn an_undo_is_tried_again_within_its_budget() {
    let (_dir, board, cx) = scene();
    board.luck("run c", [Luck::Fails]);
    board.luck("undo b", [Luck::FailsForNow, Luck::FailsForNow]);
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert_eq!(board.cells(), "");
    assert_eq!(board.calls(), "run a, run b, run c, undo c, undo b, undo b, undo b, undo a");
}

#[tokio::test]
async fn needs_a_person_and_is_recovered_once_the_cause_is_gone() {
    let (_dir, board, cx) = scene();
    board.luck("run c", [Luck::FailsForNow]);
    board.luck("undo b", [Luck::Fails, Luck::Fails]);
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsPerson);
    let Outcome::NeedsPerson { what_to_do } = &error.report().unwrap().outcome else {
        panic!("{error}");
    };
    assert!(what_to_do.contains("`set b to new` on board:one could not be undone"), "{what_to_do}");
    assert_eq!(open(&cx), [Standing::NeedsPerson]);
    assert_eq!(board.cells(), "a=new b=new", "what comes before the failed undo is not touched");

    let blocked = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::Refused);
    assert!(blocked.to_string().contains("is not finished"), "{blocked}");

    let again = recover(&&board, &cx).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NeedsPerson, "the cause is still there");
    let recovery = recover(&&board, &cx).await.unwrap();
    let class = match recovery.reports[0].outcome {
        Outcome::RolledBack { class, .. } => class,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(class, Class::Temporary, "as the journal has it");
    assert!(recovery.reports[0].recovered);
    assert_eq!(board.cells(), "");
    cx.execute(abc(&board), &&board).await.unwrap();
}

#[tokio::test]
async fn a_person_resolves_what_cannot_be_undone() {
    let (_dir, board, cx) = scene();
    board.luck("run c", [Luck::Fails]);
    board.luck("undo b", [Luck::Fails]);
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    let id = error.report().unwrap().id;
    let closed = operations::resolve(&cx, id, ResolvedState::Old, "ann", "by hand").unwrap();
    assert_eq!(closed.standing, Standing::Resolved);
    assert!(open(&cx).is_empty());
    let twice = operations::resolve(&cx, id, ResolvedState::Old, "ann", "again").unwrap_err();
    assert!(twice.to_string().contains("no open journal"), "{twice}");
    cx.execute(abc(&board), &&board).await.unwrap();
}

#[tokio::test]
async fn finishers_that_fail_are_left_to_recovery() {
    let (_dir, board, cx) = scene();
    board.luck("run tidy", [Luck::Fails]);
    let report = cx.execute(abc(&board), &&board).await.unwrap();
    let pending = Outcome::FinishersPending { pending: vec!["set tidy to new".into()] };
    assert_eq!(report.outcome, pending);
    assert_eq!(report.event, "abc_success", "after the commit no failure may look like one");
    assert_eq!(open(&cx), [Standing::Finishing]);
    let recovery = recover(&&board, &cx).await.unwrap();
    assert_eq!(recovery.reports[0].outcome, Outcome::Completed);
    assert_eq!(board.cells(), NEW);
    assert!(recover(&&board, &cx).await.unwrap().reports.is_empty());
}

#[tokio::test]
async fn a_finisher_is_repeated_until_it_succeeds() {
    let (_dir, board, cx) = scene();
    board.luck("run tidy", [Luck::FailsForNow]);
    let report = cx.execute(abc(&board), &&board).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(board.calls(), "run a, run b, run c, run tidy, run tidy");
}

#[tokio::test]
async fn refused_with_every_reason_at_once() {
    let (dir, board, cx) = scene();
    let reasons = [Refusal::new("it rains", "wait"), Refusal::new("it pours", "wait longer")];
    board.refusals.lock().unwrap().extend(reasons.clone());
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.reasons(), reasons);
    assert_eq!(
        error.to_string(),
        "`abc` is refused, nothing was changed: it rains (wait); it pours (wait longer)"
    );
    assert_eq!(board.calls(), "");
    assert!(!dir.path().join("journals").exists(), "nothing was begun");
}

#[tokio::test]
async fn what_is_refused_may_pass_if_every_reason_may() {
    use Class::{OutcomeUnknown, Permanent, Temporary};
    for (classes, class) in [
        ([Permanent, Permanent], Permanent),
        ([Permanent, Temporary], Permanent),
        ([OutcomeUnknown, Temporary], Temporary),
    ] {
        let (_dir, board, cx) = scene();
        let reasons = classes.map(|class| Refusal::new("it rains", "wait").class_of(class));
        board.refusals.lock().unwrap().extend(reasons);
        let error = cx.execute(abc(&board), &&board).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::Refused, class), "{classes:?}");
    }
    for (luck, class) in [(Luck::Fails, Permanent), (Luck::FailsForNow, Temporary)] {
        let (_dir, board, cx) = scene();
        board.luck("check b", [luck]);
        let error = cx.execute(abc(&board), &&board).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::Refused, class), "{luck:?}");
    }
}

#[tokio::test]
async fn a_dropped_future_is_recovered() {
    let (_dir, board, cx) = scene();
    board.luck("run b", [Luck::HangsForEver]);
    let world = &board;
    left_at(cx.execute(abc(&board), &world), &board).await;
    assert_eq!(open(&cx), [Standing::Running]);
    assert_eq!(board.cells(), "a=new b=new");
    let recovery = recover(&&board, &cx).await.unwrap();
    assert!(matches!(
        recovery.reports[0].outcome,
        Outcome::RolledBack { why: AbortReason::ProcessDied, class: Class::Temporary, .. }
    ));
    assert_eq!(board.cells(), "");
}

#[tokio::test]
async fn a_recovery_sweeps_what_never_became_a_journal() {
    let (dir, board, cx) = scene();
    cx.execute(abc(&board), &&board).await.unwrap();
    let open = dir.path().join("journals/open");
    let two = [0, 2].map(|hours| {
        let path = ops_core::fs::temporary_beside(&open.join("operation.jsonl"));
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_hours(hours)).unwrap();
        path
    });
    recover(&&board, &cx).await.unwrap();
    assert_eq!(two.map(|path| path.exists()), [true, false], "the young one may be somebody's");
}

#[tokio::test]
async fn plans_of_two_resources_are_one_operation() {
    let (_dir, one, cx) = scene();
    let two = Board::new("two");
    two.luck("run c", [Luck::Fails]);
    let plan = abc(&one).then(abc(&two)).named("both");
    let ids: Vec<_> = plan.resources().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["board:one", "board:two"]);
    let error = cx.execute(plan.clone(), &(&two, &one)).await.unwrap_err();
    assert_eq!(error.report().unwrap().event, "both_failure");
    assert_eq!((one.cells().as_str(), two.cells().as_str()), ("", ""));
    cx.execute(plan, &(&two, &one)).await.unwrap();
    assert_eq!((one.cells().as_str(), two.cells().as_str()), (NEW, NEW));
    let (all, _) = operations::list(&cx, Which::All).unwrap();
    assert_eq!(all.len(), 2, "one journal an operation");
}

#[tokio::test]
async fn a_world_that_lacks_a_resource_is_named_before_anything_is_written() {
    let (dir, one, cx) = scene();
    let two = Board::new("two");
    let error = cx.execute(abc(&one).then(abc(&two)), &&one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plan);
    assert!(error.to_string().contains("the world lacks board:two"), "{error}");
    assert!(!dir.path().join("journals").exists());
}

#[tokio::test]
async fn journals_of_others_are_left_alone_or_refused_by_name() {
    let (dir, one, cx) = scene();
    let two = Board::new("two");
    one.luck("run b", [Luck::HangsForEver]);
    let world = (&one, &two);
    left_at(cx.execute(abc(&one).then(abc(&two)), &world), &one).await;

    let three = Board::new("three");
    assert!(recover(&&three, &cx).await.unwrap().reports.is_empty(), "not of this world");
    let error = recover(&&one, &cx).await.unwrap_err();
    assert!(error.to_string().contains("the world lacks board:two"), "{error}");
    let other = builder(dir.path()).program("other").build();
    let error = recover(&world, &other).await.unwrap_err();
    assert!(error.to_string().contains("begun by the program `ops`"), "{error}");
    assert_eq!(one.cells(), "a=new b=new", "untouched");
    let _ = one.id();
    assert_eq!(recover(&world, &cx).await.unwrap().reports.len(), 1);
}

#[tokio::test]
async fn a_journal_of_a_newer_program_is_refused_by_name_and_untouched() {
    let (dir, board, cx) = scene();
    board.luck("run b", [Luck::HangsForEver]);
    let world = &board;
    left_at(cx.execute(abc(&board), &world), &board).await;
    let folder = dir.path().join("journals/open");
    let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let newer = std::fs::read_to_string(&path).unwrap().replacen("\"schema\":1", "\"schema\":2", 1);
    std::fs::write(&path, &newer).unwrap();
    let error = recover(&&board, &cx).await.unwrap_err();
    assert!(error.to_string().contains("has format 2, this program reads up to 1"), "{error}");
    let blocked = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::Refused);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}
