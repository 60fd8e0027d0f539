//! One report an operation, and no reporter that could harm one.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::reporter::{JsonLinesReporter, MemoryReporter, Reporter};
use ops_core::{Error, ErrorKind, Report};

use crate::board::{Board, Luck, abc, builder};

#[derive(Debug)]
enum Bad {
    Fails,
    Hangs,
    Panics,
}

impl Reporter for Bad {
    fn report<'a>(&'a self, _: &'a Report) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            match self {
                Self::Fails => Err(Error::new(ErrorKind::Io, "no line")),
                Self::Hangs => std::future::pending().await,
                Self::Panics => panic!("a bug in a reporter"),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_reporter_that_fails_hangs_or_panics_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = MemoryReporter::default();
    let cx = builder(dir.path())
        .reporter(Bad::Fails)
        .reporter(Bad::Hangs)
        .reporter(Bad::Panics)
        .reporter(good.clone())
        .reporter_budget(Duration::from_millis(200))
        .build();
    let board = Board::new("one");
    let world = &board;
    let ended = tokio::time::timeout(Duration::from_secs(60), cx.execute(abc(&board), &world));
    let report = ended.await.expect("the budget bounds it").unwrap();
    assert_eq!(good.reports(), [report]);
}

#[tokio::test]
async fn each_report_is_one_line_of_json_in_the_file_of_its_month() {
    let dir = tempfile::tempdir().unwrap();
    let reports = dir.path().join("reports");
    let cx = builder(dir.path()).reporter(JsonLinesReporter::new(&reports)).build();
    let board = Board::new("one");
    cx.execute(abc(&board), &&board).await.unwrap();
    board.luck("run b", [Luck::Fails]);
    cx.execute(abc(&board), &&board).await.unwrap_err();
    let file = std::fs::read_dir(&reports).unwrap().next().unwrap().unwrap();
    let name = file.file_name().into_string().unwrap();
    assert_eq!(name, format!("reports-{}.jsonl", jiff::Timestamp::now().strftime("%Y-%m")));
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<Report> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0].event, "abc_success");
    assert_eq!(lines[1].event, "abc_failure");
    assert_eq!(lines[1].error, ["step `set` failed", "`run b` has bad luck"]);
    let json: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(json["outcome"], "rolled_back");
    for field in
        ["timestamp", "id", "operation", "duration_ms", "hostname", "user", "steps", "host"]
    {
        assert!(!json[field].is_null(), "{field} is missing");
    }
}
