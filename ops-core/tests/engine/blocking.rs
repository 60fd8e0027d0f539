//! Work on other threads, and the locks of living processes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ops_core::lock::{Attempt, Holder, Lock};
use ops_core::{
    Class, Classify as _, Effect, ErrorKind, OperationId, Plan, Resource, ResourceId, Step,
    StepContext, StepError,
};
use serde::{Deserialize, Serialize};

use crate::board::{Board, abc, builder};

/// Writes slowly from a thread that looks at its token late.
#[derive(Debug, Default)]
struct Slow {
    writing: Arc<AtomicBool>,
    seen: Mutex<Vec<bool>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Write;

impl Resource for Slow {
    type Step = Write;
    fn id(&self) -> ResourceId {
        ResourceId::new("slow", "one")
    }
}

impl Step for Write {
    const FAMILY: &'static str = "slow";
    type Env = Slow;

    fn name(&self) -> &'static str {
        "write"
    }

    fn effect(&self) -> Effect {
        Effect::changes("write slowly")
    }

    async fn run(&self, slow: &Slow, cx: &StepContext) -> Result<(), StepError> {
        let writing = Arc::clone(&slow.writing);
        writing.store(true, Ordering::SeqCst);
        cx.blocking(move |cancel| {
            while !cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Longer than the grace: the step itself is dropped meanwhile.
            std::thread::sleep(Duration::from_millis(400));
            writing.store(false, Ordering::SeqCst);
            Ok::<_, StepError>(())
        })
        .await
    }

    async fn undo(&self, slow: &Slow, _: &StepContext) -> Result<(), StepError> {
        slow.seen.lock().unwrap().push(slow.writing.load(Ordering::SeqCst));
        Ok(())
    }
}

#[tokio::test]
async fn nothing_is_undone_next_to_work_that_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Slow::default();
    let cx = builder(dir.path()).step_grace(Duration::from_millis(20)).build();
    let plan = Plan::new("slow").change(&slow, &Write).unwrap().within(Duration::from_millis(20));
    let error = cx.execute(plan, &&slow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert_eq!(*slow.seen.lock().unwrap(), [false]);
}

#[tokio::test]
async fn a_resource_that_a_living_process_holds_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cx = builder(dir.path()).build();
    let board = Board::new("one");
    cx.execute(abc(&board), &&board).await.unwrap();
    // The lock file that the operation made; another descriptor is another holder.
    let folder = dir.path().join("locks");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let id = OperationId::generate();
    let other = Holder::this_process("other", jiff::Timestamp::now())
        .operation(id, dir.path().join("nowhere"));
    let Attempt::Acquired(lock) = Lock::try_acquire(&path, &other).unwrap() else {
        panic!("the lock was not released");
    };
    let error = cx.execute(abc(&board), &&board).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Refused, Class::Temporary));
    let text = error.to_string();
    for part in ["board:one is locked by `other`", &std::process::id().to_string(), &id.to_string()]
    {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    lock.release().unwrap();
    cx.execute(abc(&board), &&board).await.unwrap();
}
