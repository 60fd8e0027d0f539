//! What a step logs says of which step of which operation it is.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ops_core::{Effect, Plan, Resource, ResourceId, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::board::builder;

#[derive(Debug)]
struct Diary;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note;

impl Resource for Diary {
    type Step = Note;

    fn id(&self) -> ResourceId {
        ResourceId::new("diary", "one")
    }
}

impl Step for Note {
    const FAMILY: &'static str = "diary";
    type Env = Diary;

    fn name(&self) -> &'static str {
        "note"
    }

    fn effect(&self) -> Effect {
        Effect::changes("write a note")
    }

    async fn run(&self, _: &Diary, cx: &StepContext) -> Result<(), StepError> {
        tracing::info!("in the task");
        let aside = |_: &_| {
            tracing::info!("on a thread");
            Ok::<_, StepError>(())
        };
        cx.blocking(aside).await?;
        Err(StepError::permanent("enough"))
    }

    async fn undo(&self, _: &Diary, _: &StepContext) -> Result<(), StepError> {
        tracing::info!("on the way back");
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_logged_stands_in_the_spans_of_its_operation_and_step() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    // Each test is a process of its own, and the blocking threads need it too.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("diary").change(&Diary, &Note).unwrap();
    let error = builder(dir.path()).build().execute(plan, &&Diary).await.unwrap_err();
    let id = error.report().unwrap().id;

    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for (said, way) in [("in the task", "run"), ("on a thread", "run"), ("on the way back", "undo")]
    {
        let line = lines.lines().find(|line| line.ends_with(said)).unwrap();
        let spans = format!(
            "operation{{id={id} name=\"diary\"}}:step{{name=\"note\" resource=diary:one way=\"{way}\"}}"
        );
        assert!(line.contains(&spans), "`{line}` lacks `{spans}`");
    }
}
