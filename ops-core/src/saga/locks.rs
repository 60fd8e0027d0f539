//! The locks of an operation: one a resource, taken in sorted order, given back when its journal
//! is closed.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::world::World;
use crate::context::Context;
use crate::error::{Class, Error, ErrorKind, Refusal};
use crate::lock::{Attempt, Holder, Lock};
use crate::operation_id::OperationId;
use crate::resource::ResourceId;

/// The locks of one operation. Dropping them frees the resources for other processes but leaves
/// the mark of an unfinished operation; [`release`](Self::release) takes the mark away.
#[derive(Debug)]
#[must_use = "dropping the locks frees the resources"]
pub(super) struct Locks(Vec<Lock>);

/// Why the locks cannot be had.
#[derive(Debug)]
pub(super) enum Denied {
    /// Living processes hold some of them.
    Held(Vec<Refusal>),
    /// A lock cannot be taken at all.
    Failed(Error),
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Held(refusals) => {
                Error::new(ErrorKind::Locked, "another process works on it").refusals(refusals)
            }
            Denied::Failed(error) => error,
        }
    }
}

impl Locks {
    /// Takes the locks of these resources, which are sorted. An operation that another state
    /// directory left unfinished denies them; `id`'s own mark does not.
    pub async fn take(
        cx: &Context,
        world: &dyn World,
        resources: &[ResourceId],
        id: OperationId,
        journal: PathBuf,
    ) -> Result<Self, Denied> {
        let paths: Vec<_> = resources
            .iter()
            .map(|resource| (resource.clone(), path(cx, world, resource)))
            .collect();
        let me = Holder::this_process(&cx.0.program, cx.clock().now()).operation(id, journal);
        let take = move || take_all(&paths, &me);
        tokio::task::spawn_blocking(take).await.map_err(|join| {
            Denied::Failed(Error::new(ErrorKind::Io, "taking the locks panicked").caused_by(join))
        })?
    }

    /// Frees the resources and leaves the marks as they were found: nothing was begun.
    pub async fn give_back(self) -> Result<(), Error> {
        let give_back = move || self.0.into_iter().try_for_each(Lock::give_back);
        tokio::task::spawn_blocking(give_back).await.map_err(|join| {
            Error::new(ErrorKind::Io, "giving the locks back panicked").caused_by(join)
        })?
    }

    /// Takes the marks away and frees the resources.
    pub async fn release(self) -> Result<(), Error> {
        let release = move || self.0.into_iter().try_for_each(Lock::release);
        tokio::task::spawn_blocking(release).await.map_err(|join| {
            Error::new(ErrorKind::Io, "releasing the locks panicked").caused_by(join)
        })?
    }
}

fn take_all(paths: &[(ResourceId, PathBuf)], me: &Holder) -> Result<Locks, Denied> {
    let mut locks = Vec::new();
    let mut refusals = Vec::new();
    for (resource, path) in paths {
        match Lock::try_acquire(path, me).map_err(Denied::Failed)? {
            Attempt::Acquired(lock) => {
                // All of them: one that died before it could give the lock back hides no other.
                let left = lock.all_left_behind().iter();
                refusals.extend(left.filter_map(|left| blocks(resource, left, me)));
                locks.push(lock);
            }
            Attempt::Held(holder) => {
                let reason = format!("{resource} is locked by {holder}");
                let remedy = "wait until it has ended, or end that process";
                refusals.push(Refusal::new(reason, remedy).class_of(Class::Temporary));
            }
        }
    }
    if refusals.is_empty() {
        return Ok(Locks(locks));
    }
    locks.into_iter().try_for_each(Lock::give_back).map_err(Denied::Failed)?;
    Err(Denied::Held(refusals))
}

/// What a dead holder left: its operation blocks if its journal is still open somewhere else.
fn blocks(resource: &ResourceId, left: &Holder, me: &Holder) -> Option<Refusal> {
    let journal = left.journal.as_deref()?;
    let elsewhere = journal.parent() != me.journal.as_deref().and_then(Path::parent);
    if left.operation == me.operation || !elsewhere || !journal.exists() {
        return None;
    }
    let id = left.operation?;
    Some(Refusal::new(
        format!(
            "operation {id} on {resource} is not finished; its journal is `{}`",
            journal.display()
        ),
        "call `recover` with the state directory of that journal",
    ))
}

fn path(cx: &Context, world: &dyn World, resource: &ResourceId) -> PathBuf {
    let own = world.find(resource).and_then(super::AnyResource::lock_path);
    own.unwrap_or_else(|| {
        let digest = hex::encode(Sha256::digest(resource.as_str()));
        cx.state_dir().join("locks").join(format!("{}.lock", &digest[..32]))
    })
}
