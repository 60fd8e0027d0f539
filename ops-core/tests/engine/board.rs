//! A board of cells in memory, whose steps do as they are told: succeed, fail, hang, panic.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ops_core::{
    ApproveIf, Class, Classify, Context, ContextBuilder, Effect, Environment, Plan, Refusal,
    Resource, ResourceId, Step, StepContext, StepError,
};
use serde::{Deserialize, Serialize};

/// An error after which the effect may be there.
#[derive(Debug, thiserror::Error)]
#[error("the answer was lost")]
struct Lost;

impl Classify for Lost {
    fn class(&self) -> Class {
        Class::OutcomeUnknown
    }
}

/// What the next call of a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Fails,
    FailsForNow,
    Loses,
    Hangs,
    HangsForEver,
    Panics,
    CancelsTheOperation,
}

#[derive(Debug, Default)]
pub struct Board {
    name: String,
    cells: Mutex<BTreeMap<String, String>>,
    luck: Mutex<BTreeMap<String, VecDeque<Luck>>>,
    pub calls: Mutex<Vec<String>>,
    pub refusals: Mutex<Vec<Refusal>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub cell: String,
    pub value: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    Changes,
    Retained,
    Destroys,
    Reads,
}

impl Board {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The next calls of this step (`run a`, `undo a`) do this, then it succeeds.
    pub fn luck(&self, call: &str, luck: impl IntoIterator<Item = Luck>) {
        self.luck.lock().unwrap().entry(call.into()).or_default().extend(luck);
    }

    pub fn cells(&self) -> String {
        let cells = self.cells.lock().unwrap();
        cells.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    }

    pub fn calls(&self) -> String {
        self.calls.lock().unwrap().join(", ")
    }

    /// Ends when this step was called.
    pub async fn called(&self, call: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        while !self.calls.lock().unwrap().iter().any(|called| called == call) {
            assert!(tokio::time::Instant::now() < deadline, "never called: {call}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn call(&self, call: String, cx: &StepContext) -> Result<(), StepError> {
        self.calls.lock().unwrap().push(call.clone());
        let luck = self.luck.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        match luck {
            None => Ok(()),
            Some(Luck::Fails) => Err(StepError::permanent(format!("`{call}` has bad luck"))),
            Some(Luck::FailsForNow) => Err(StepError::temporary("not yet")),
            Some(Luck::Loses) => Err(Lost.into()),
            Some(Luck::Hangs) => cx.until_cancelled(std::future::pending()).await,
            Some(Luck::HangsForEver) => std::future::pending().await,
            Some(Luck::Panics) => panic!("a bug in `{call}`"),
            Some(Luck::CancelsTheOperation) => {
                cx.context().cancellation().cancel();
                Ok(())
            }
        }
    }
}

impl Resource for Board {
    type Step = Set;

    fn id(&self) -> ResourceId {
        ResourceId::new("board", &self.name)
    }
}

impl Step for Set {
    const FAMILY: &'static str = "board";
    type Env = Board;

    fn name(&self) -> &'static str {
        "set"
    }

    fn effect(&self) -> Effect {
        let what = format!("set {} to {}", self.cell, self.value);
        match self.kind {
            Kind::Changes => Effect::changes(what),
            Kind::Retained => Effect::retained(what),
            Kind::Destroys => Effect::destroys(what),
            Kind::Reads => Effect::reads(format!("look at {}", self.cell)),
        }
    }

    async fn check(&self, board: &Board, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let call = format!("check {}", self.cell);
        let lucky = board.luck.lock().unwrap().contains_key(&call);
        if lucky {
            board.call(call, cx).await?;
        }
        Ok(std::mem::take(&mut *board.refusals.lock().unwrap()))
    }

    async fn run(&self, board: &Board, cx: &StepContext) -> Result<(), StepError> {
        let old = board.cells.lock().unwrap().get(&self.cell).cloned();
        let key = format!("old {}", self.cell);
        cx.observe(&key, async { Ok(old.unwrap_or_default()) }).await?;
        if self.kind != Kind::Reads {
            board.cells.lock().unwrap().insert(self.cell.clone(), self.value.clone());
        }
        board.call(format!("run {}", self.cell), cx).await
    }

    async fn undo(&self, board: &Board, cx: &StepContext) -> Result<(), StepError> {
        board.call(format!("undo {}", self.cell), cx).await?;
        let Some(old) = cx.noted::<String>(&format!("old {}", self.cell))? else { return Ok(()) };
        let mut cells = board.cells.lock().unwrap();
        if old.is_empty() {
            cells.remove(&self.cell);
        } else {
            cells.insert(self.cell.clone(), old);
        }
        Ok(())
    }
}

pub fn set(cell: &str, kind: Kind) -> Set {
    Set { cell: cell.into(), value: "new".into(), kind }
}

/// Sets a, b and c, then tidies with a finisher.
pub fn abc(board: &Board) -> Plan {
    ["a", "b", "c"]
        .iter()
        .fold(Plan::new("abc"), |plan, cell| plan.change(board, &set(cell, Kind::Changes)).unwrap())
        .finisher(board, &set("tidy", Kind::Changes))
        .unwrap()
}

pub fn builder(state: &Path) -> ContextBuilder {
    Context::builder(state)
        .environment(Environment::Staging)
        .step_grace(Duration::from_millis(200))
        .finish_budget(Duration::from_millis(200))
        .undo_budget(Duration::from_secs(2))
}

pub fn approving(state: &Path) -> ContextBuilder {
    builder(state).approver(ApproveIf::new("the test", |_| true))
}

/// Every file below a folder, with its bytes.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}
