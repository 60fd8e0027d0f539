//! Looks at operations through their journals, without running anything; and closes by hand what
//! needs a person.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::context::Context;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::journal::{
    End, Entry, Folder, JournalFile, Opened, Phase, Record, ResolvedState, State, peek, replay,
};
use crate::operation_id::OperationId;
use crate::plan::Plan;

/// Where an operation is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// Its changes go forward, or its process died while they did.
    Running,
    /// Its changes are undone, or its process died while they were.
    GoingBack,
    /// It has committed; finishers are left.
    Finishing,
    /// An undo failed.
    NeedsPerson,
    /// It ended in the new state.
    Completed,
    /// It ended in the old state.
    RolledBack,
    /// A person ended it.
    Resolved,
}

/// One operation, as its journal tells it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// When it began.
    pub began_at: Timestamp,
    /// When its last record was written.
    pub last_at: Timestamp,
    /// The program that began it.
    pub program: String,
    /// Where it runs.
    pub environment: Environment,
    /// What it does.
    pub plan: Plan,
    /// Where it is.
    pub standing: Standing,
    /// Why it went back, if it did.
    pub cause: Vec<String>,
    /// What a person is to do, if an undo failed.
    pub what_to_do: Option<String>,
    /// Its journal.
    pub journal: PathBuf,
}

/// A journal that could not be read, and why.
#[derive(Debug)]
pub struct Unreadable {
    /// The operation.
    pub id: OperationId,
    /// Why.
    pub error: Error,
}

/// Which operations to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are not closed.
    Open,
    /// All whose journals are kept.
    All,
}

/// The operations of a state directory, oldest first, and the journals that cannot be read.
///
/// Blocks on the file system.
///
/// # Errors
/// If the journals cannot be listed.
pub fn list(cx: &Context, which: Which) -> Result<(Vec<Operation>, Vec<Unreadable>), Error> {
    let folder = Folder::of(cx.state_dir());
    let mut journals = folder.open()?;
    if which == Which::All {
        journals.extend(folder.closed()?);
        journals.sort();
    }
    let (mut operations, mut unreadable) = (Vec::new(), Vec::new());
    for (id, path) in journals {
        match read(&path) {
            Ok((operation, _)) => operations.push(operation),
            Err(error) => unreadable.push(Unreadable { id, error }),
        }
    }
    if which == Which::Open {
        operations.retain(Operation::is_open);
    }
    Ok((operations, unreadable))
}

/// One operation and every record of its journal.
///
/// Blocks on the file system.
///
/// # Errors
/// If there is no such journal, or it cannot be read.
pub fn show(cx: &Context, id: OperationId) -> Result<(Operation, Vec<Entry>), Error> {
    let folder = Folder::of(cx.state_dir());
    let paths = [folder.open_path(id), folder.closed_path(id)];
    let path = paths.into_iter().find(|path| path.exists()).ok_or_else(|| not_found(cx, id))?;
    read(&path)
}

/// Closes an operation by hand: what a person does after having put things right. The state is
/// believed; nothing is run or undone.
///
/// Blocks on the file system. The resources are free afterwards.
///
/// # Errors
/// If the operation is not open, or a living process runs it.
pub fn resolve(
    cx: &Context,
    id: OperationId,
    state: ResolvedState,
    by: &str,
    reason: &str,
) -> Result<Operation, Error> {
    let folder = Folder::of(cx.state_dir());
    let path = folder.open_path(id);
    match JournalFile::open(&path, cx.0.journal_io.clone())? {
        Opened::Gone => return Err(not_found(cx, id)),
        Opened::Running => {
            return Err(Error::new(ErrorKind::Locked, format!("operation {id} is running"))
                .remedy("wait until it has ended, or end its process"));
        }
        Opened::Ours(mut journal, mut known) => {
            let redact = |text: &str| cx.redactor().redact(text);
            let end = End::Resolved { state, by: redact(by), reason: redact(reason) };
            let record = Record::Closed { end };
            known.advance(&record).map_err(|illegal| {
                Error::new(ErrorKind::InvalidInput, format!("operation {id} is closed already"))
                    .caused_by(illegal)
            })?;
            journal.append(&record).map_err(|failure| {
                Error::io("write the journal", journal.path(), failure.source)
            })?;
        }
    }
    folder.put_away(id)?;
    read(&folder.closed_path(id)).map(|(operation, _)| operation)
}

impl Operation {
    /// Whether it is not closed: then it blocks its resources.
    pub fn is_open(&self) -> bool {
        !matches!(self.standing, Standing::Completed | Standing::RolledBack | Standing::Resolved)
    }
}

fn read(path: &Path) -> Result<(Operation, Vec<Entry>), Error> {
    let entries = peek(path)?;
    let state = replay(path, &entries)?;
    let began = state.began();
    // `replay` has seen a first record, so both ends exist.
    let at = |entry: Option<&Entry>| entry.map_or(Timestamp::UNIX_EPOCH, |entry| entry.at);
    let operation = Operation {
        id: began.id,
        began_at: at(entries.first()),
        last_at: at(entries.last()),
        program: began.program.clone(),
        environment: began.environment,
        plan: began.plan.clone(),
        standing: standing(&state),
        cause: state.cause().to_vec(),
        what_to_do: state.what_to_do().map(str::to_owned),
        journal: path.to_owned(),
    };
    Ok((operation, entries))
}

fn standing(state: &State) -> Standing {
    match state.phase() {
        _ if state.what_to_do().is_some() && !matches!(state.phase(), Phase::Closed(_)) => {
            Standing::NeedsPerson
        }
        Phase::Running => Standing::Running,
        Phase::Aborting => Standing::GoingBack,
        Phase::Committed => Standing::Finishing,
        Phase::Closed(End::Completed) => Standing::Completed,
        Phase::Closed(End::RolledBack) => Standing::RolledBack,
        Phase::Closed(End::Resolved { .. }) => Standing::Resolved,
    }
}

fn not_found(cx: &Context, id: OperationId) -> Error {
    let folder = cx.state_dir().join("journals");
    Error::new(ErrorKind::InvalidInput, format!("no open journal of operation {id}"))
        .with("folder", folder.display())
        .remedy("list the operations to see which there are")
}
