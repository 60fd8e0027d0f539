//! Disks that fail: the outcome says what the state is, and a later recovery agrees with it.

use std::path::Path;
use std::process::Command;

use ops_core::journal::{FailingIo, Fault};
use ops_core::operations::{self, Which};
use ops_core::{ErrorKind, Outcome, recover};

use crate::board::{Board, Luck, abc, builder, snapshot};

const NEW: &str = "a=new b=new c=new tidy=new";

fn state_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Completed | Outcome::FinishersPending { .. } => Some(NEW),
        Outcome::RolledBack { .. } | Outcome::Refused { .. } => Some(""),
        _ => None,
    }
}

/// Lets the disk fail at every record, in every way; then recovers on a disk that works.
#[tokio::test]
async fn a_fault_at_every_record_ends_as_the_outcome_says() {
    let mut outcomes = std::collections::BTreeMap::<_, u32>::new();
    for at in 1..=16 {
        for fault in [Fault::Write, Fault::ShortWrite, Fault::Sync] {
            for (for_ever, cut_fails) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                for fails in [false, true] {
                    let name = one_fault(at, fault, for_ever, cut_fails, fails).await;
                    *outcomes.entry(name).or_default() += 1;
                }
            }
        }
    }
    for expected in ["completed", "rolled_back", "refused", "commit_unknown"] {
        assert!(outcomes.contains_key(expected), "{outcomes:?}");
    }
}

async fn one_fault(
    at: u64,
    fault: Fault,
    for_ever: bool,
    cut_fails: bool,
    fails: bool,
) -> &'static str {
    let story = format!("{fault:?} at {at}, for ever {for_ever}, cut fails {cut_fails}, {fails}");
    let dir = tempfile::tempdir().unwrap();
    let mut io = FailingIo::new(fault, at);
    if for_ever {
        io = io.for_ever();
    }
    if cut_fails {
        io = io.cut_fails();
    }
    let board = Board::new("one");
    if fails {
        board.luck("run c", [Luck::Fails]);
    }
    let cx = builder(dir.path()).journal_io(io).build();
    let ended = cx.execute(abc(&board), &&board).await;
    let outcome = match &ended {
        Ok(report) => report.outcome.clone(),
        Err(error) => error.report().unwrap_or_else(|| panic!("{story}: {error}")).outcome.clone(),
    };
    if let Some(state) = state_of(&outcome) {
        let found = board.cells();
        let tidied =
            found == "a=new b=new c=new" && matches!(outcome, Outcome::FinishersPending { .. });
        assert!(found == state || tidied, "{story}: {outcome:?} but {found}");
    }

    let cx = builder(dir.path()).build();
    let recovery = recover(&&board, &cx).await.unwrap_or_else(|e| panic!("{story}: {e}"));
    let settled = board.cells();
    assert!(settled == NEW || settled.is_empty(), "{story}: {settled}");
    if let Some(state) = state_of(&outcome) {
        assert_eq!(settled, state, "{story}: the recovery disagrees with {outcome:?}");
    }
    if let Some(report) = recovery.reports.first() {
        assert_eq!(state_of(&report.outcome), Some(settled.as_str()), "{story}");
    }
    let (open, unreadable) = operations::list(&cx, Which::Open).unwrap();
    assert!(open.is_empty() && unreadable.is_empty(), "{story}");
    outcome.name()
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_refuses() {
    let dir = tempfile::tempdir().unwrap();
    // Root may write where nobody may: a file in the place of the folder stops it too.
    let state = dir.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    let board = Board::new("one");
    let error = builder(&state).build().execute(abc(&board), &&board).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Refused), "{error}");
    assert_eq!(board.calls(), "");
}

/// A file system of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output()
            .expect("`mount` is needed to test full disks");
        assert!(
            mounted.status.success(),
            "a small tmpfs is needed to test full disks, and mounting it needs root: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(dir)
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(done.success());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_before_and_goes_back_after() {
    // From no room at all to plenty: each size ends as its outcome says.
    let mut outcomes = std::collections::BTreeSet::new();
    for pages in [5, 6, 7, 8, 10, 12, 16, 32, 64] {
        let disk = Tmpfs::new(&format!("size={}", pages * 4096));
        let board = Board::new("one");
        let cx = builder(disk.path()).build();
        let ended = cx.execute(abc(&board), &&board).await;
        let name = match &ended {
            Ok(report) => report.outcome.name(),
            Err(error) => {
                assert_eq!(board.cells(), "", "{pages} pages: {error}");
                error.report().map_or("refused", |report| report.outcome.name())
            }
        };
        outcomes.insert(name);
        disk.remount("size=1m");
        let recovery = recover(&&board, &cx).await.unwrap();
        assert!(recovery.reports.is_empty() || ended.is_err());
        if ended.is_ok() {
            assert_eq!(board.cells(), NEW);
        } else {
            assert_eq!(board.cells(), "");
        }
        cx.execute(abc(&board), &&board).await.unwrap();
    }
    assert!(outcomes.contains("refused") && outcomes.contains("completed"), "{outcomes:?}");
}

#[tokio::test]
async fn the_way_back_fits_on_a_disk_that_fills_up_meanwhile() {
    let disk = Tmpfs::new("size=256k");
    let board = Board::new("one");
    board.luck("run c", [Luck::HangsForEver]);
    let cx = builder(disk.path()).build();
    let plan = abc(&board).within(std::time::Duration::from_secs(2));
    let fill = async {
        board.called("run c").await;
        let filled = std::fs::write(disk.path().join("fill"), vec![0; 1 << 20]);
        assert!(filled.is_err(), "the disk is full now");
    };
    let world = &board;
    let (ended, ()) = tokio::join!(cx.execute(plan, &world), fill);
    let report = ended.unwrap_err().report().unwrap().clone();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }));
    assert_eq!(report.warnings, Vec::<String>::new(), "its records had room");
    assert_eq!(board.cells(), "");
}

#[tokio::test]
async fn a_read_only_state_directory_refuses_and_is_left_as_it_is() {
    let disk = Tmpfs::new("size=1m");
    let board = Board::new("one");
    let cx = builder(disk.path()).build();
    cx.execute(abc(&board), &&board).await.unwrap();
    let before = snapshot(disk.path());
    disk.remount("ro");
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Refused), "{error}");
    let text = ops_core::error::chain(&error).join(": ");
    assert!(text.contains("ead-only"), "{text}");
    assert_eq!(snapshot(disk.path()), before);
}
