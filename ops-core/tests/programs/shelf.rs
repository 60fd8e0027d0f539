//! A shelf of files, and the steps that move them about: each effect is several system calls, so
//! that it can be left half done at each of them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ops_core::{
    Context, Effect, Environment, Plan, Refusal, Resource, ResourceId, Step, StepContext, StepError,
};
use serde::{Deserialize, Serialize};

/// A directory of files.
#[derive(Debug)]
pub struct Shelf {
    root: PathBuf,
}

/// What can be done on a shelf.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum ShelfStep {
    /// Moves a file: copies it, then removes it.
    Move { from: String, to: String },
    /// Adds one to a number in a file; which number it was can only be learned at run time.
    Count { file: String },
    /// Adds a file that stays.
    Keep { file: String },
    /// Looks whether a file is there.
    Expect { file: String },
    /// Removes a file for good: a finisher.
    Discard { file: String },
}

impl Shelf {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }

    /// Writes a file in two halves under a temporary name, then gives it its name.
    fn put(&self, name: &str, bytes: &[u8], cx: &StepContext) -> io::Result<()> {
        let temporary = self.path(&format!("{name}.part"));
        let mut file = File::create(&temporary)?;
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        file.write_all(head)?;
        cx.fault_point("half a file");
        file.write_all(tail)?;
        file.sync_all()?;
        cx.fault_point("before the rename");
        fs::rename(temporary, self.path(name))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    fn shift(&self, from: &str, to: &str, cx: &StepContext) -> Result<(), StepError> {
        match fs::read(self.path(from)) {
            Ok(bytes) => {
                self.put(to, &bytes, cx)?;
                cx.fault_point("in both places");
                self.remove(from)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path(to).exists() => {}
            Err(error) => return Err(error.into()),
        }
        self.remove(&format!("{to}.part"))?;
        Ok(())
    }

    fn number(&self, file: &str) -> Result<u64, StepError> {
        let text = fs::read_to_string(self.path(file))?;
        text.trim().parse().map_err(|_| StepError::permanent(format!("`{text}` is no number")))
    }
}

impl Resource for Shelf {
    type Step = ShelfStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("shelf", self.root.display())
    }

    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.root.join(".lock"))
    }
}

impl Step for ShelfStep {
    const FAMILY: &'static str = "shelf";
    type Env = Shelf;

    fn name(&self) -> &'static str {
        match self {
            Self::Move { .. } => "move",
            Self::Count { .. } => "count",
            Self::Keep { .. } => "keep",
            Self::Expect { .. } => "expect",
            Self::Discard { .. } => "discard",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Move { from, to } => Effect::changes(format!("move `{from}` to `{to}`")),
            Self::Count { file } => Effect::changes(format!("add one to `{file}`")),
            Self::Keep { file } => Effect::retained(format!("add `{file}`")),
            Self::Expect { file } => Effect::reads(format!("see that `{file}` is there")),
            Self::Discard { file } => Effect::destroys(format!("discard `{file}`")),
        }
    }

    async fn check(&self, shelf: &Shelf, _: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let mut refusals = Vec::new();
        if let Self::Move { from, to } = self {
            if !shelf.path(from).exists() {
                refusals.push(Refusal::new(format!("`{from}` is not there"), "put it there"));
            }
            if shelf.path(to).exists() {
                refusals.push(Refusal::new(format!("`{to}` is in the way"), "take it away"));
            }
        }
        Ok(refusals)
    }

    async fn run(&self, shelf: &Shelf, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Move { from, to } => shelf.shift(from, to, cx),
            Self::Count { file } => {
                let old =
                    cx.observe(&format!("count {file}"), async { shelf.number(file) }).await?;
                Ok(shelf.put(file, (old + 1).to_string().as_bytes(), cx)?)
            }
            Self::Keep { file } => Ok(shelf.put(file, b"kept", cx)?),
            Self::Expect { file } => {
                if shelf.path(file).exists() {
                    return Ok(());
                }
                Err(StepError::permanent(format!("`{file}` is not there")))
            }
            Self::Discard { file } => Ok(shelf.remove(file)?),
        }
    }

    async fn undo(&self, shelf: &Shelf, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Move { from, to } => {
                shelf.shift(to, from, cx)?;
                Ok(shelf.remove(&format!("{to}.part"))?)
            }
            Self::Count { file } => {
                // No note: `run` had not come to its effect.
                if let Some(old) = cx.noted::<u64>(&format!("count {file}"))? {
                    shelf.put(file, old.to_string().as_bytes(), cx)?;
                }
                Ok(shelf.remove(&format!("{file}.part"))?)
            }
            Self::Keep { file } => Ok(shelf.remove(&format!("{file}.part"))?),
            Self::Expect { .. } | Self::Discard { .. } => Ok(()),
        }
    }
}

/// How many files are moved.
pub const FILES: usize = 7;

/// Makes the old state.
pub fn set_up(root: &Path) -> io::Result<()> {
    for n in 0..FILES {
        fs::write(root.join(format!("old-{n}")), format!("content {n}"))?;
    }
    fs::write(root.join("count"), "41")?;
    fs::write(root.join("trash"), "trash")
}

/// A dozen steps: moves, a count, a file that stays, a look, and two finishers.
pub fn plan(shelf: &Shelf, fails: bool) -> Result<Plan, ops_core::Error> {
    let mut plan = Plan::new("tidy");
    for n in 0..FILES {
        let step = ShelfStep::Move { from: format!("old-{n}"), to: format!("new-{n}") };
        plan = plan.change(shelf, &step)?;
        if n == 2 {
            plan = plan.change(shelf, &ShelfStep::Count { file: "count".into() })?;
            plan = plan.change(shelf, &ShelfStep::Keep { file: "kept".into() })?;
        }
    }
    let expected = if fails { "nowhere" } else { "new-0" };
    plan.change(shelf, &ShelfStep::Expect { file: expected.into() })?
        .finisher(shelf, &ShelfStep::Discard { file: "trash".into() })?
        .finisher(shelf, &ShelfStep::Discard { file: "more-trash".into() })
}

pub fn context(state: &Path) -> Context {
    Context::builder(state)
        .environment(Environment::Staging)
        .approver(ops_core::ApproveIf::new("the test", |_| true))
        .build()
}

/// Runs a future on a small runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
