//! Bringing objects and remote-tracking refs here: the one thing that planning changes.
//!
//! Over http and https gix fetches. From a path we read the other repository ourselves, because
//! gix would start a `git-upload-pack` for that, and this crate needs no git program.

mod local;
mod pack;
mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gix::refs::FullName;
use gix::url::Scheme;
use ops_core::Context;
use ops_core::progress::Update;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::BranchName;
use crate::path_bytes::on_disk;
use crate::refs::{self, Move};
use crate::repository::GitRepository;

/// How often progress is passed on.
const TICK: Duration = Duration::from_millis(100);

/// How long a fetch that was asked to end may take to do so before it is left alone.
const GRACE: Duration = Duration::from_millis(500);

/// gix's name for the count of bytes that came over; its units cannot be compared.
const RECEIVED_BYTES: gix::progress::Id = *b"BWRB";

/// What the remote has, and what came over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// Every branch of the remote.
    pub branches: BTreeMap<BranchName, gix::ObjectId>,
    /// The remote's own `HEAD`, where it says so.
    pub head: Option<BranchName>,
    /// How many objects came over.
    pub objects: u64,
    /// How large the pack is that they lie in now.
    pub bytes: u64,
}

/// Everything that a fetch needs on its thread.
#[derive(Debug)]
struct Job {
    remote: String,
    deadline: Duration,
    interrupt: Arc<AtomicBool>,
    progress: gix::progress::tree::Item,
}

/// Raises the flag when the caller is dropped, so that the thread ends by itself.
struct InterruptOnDrop(Arc<AtomicBool>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Fetches all branches and tags of a remote.
///
/// The work has a thread of its own: not one of the runtime's, whose shutdown would wait for it.
pub(crate) async fn fetch(
    repository: &GitRepository,
    remote: &str,
    deadline: Duration,
    cx: &Context,
) -> Result<Fetched, Error> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let _on_drop = InterruptOnDrop(Arc::clone(&interrupt));
    let tree = gix::progress::tree::Root::new();
    let job = Job {
        remote: remote.to_owned(),
        deadline,
        interrupt: Arc::clone(&interrupt),
        progress: tree.add_child("fetch"),
    };
    let (sender, mut answer) = oneshot::channel();
    let on_thread = repository.clone();
    std::thread::Builder::new()
        .name("ops-git-fetch".into())
        .spawn(move || {
            // Nobody listens any more if the caller gave up.
            let _ = sender.send(on_thread.handle().and_then(|repo| work(&repo, job)));
        })
        .map_err(|source| Error::new(ErrorKind::Io, "no thread for the fetch").caused_by(source))?;

    let mut until = cx.clock().sleep(deadline);
    let stop = loop {
        tokio::select! {
            biased;
            answer = &mut answer => {
                let fetched = answer.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Git, format!("the fetch from `{remote}` panicked")))
                })?;
                let (objects, bytes) = (fetched.objects, fetched.bytes);
                cx.progress().update(&Update::items("objects fetched", objects, Some(objects)));
                cx.progress().update(&Update::bytes("bytes fetched", bytes, Some(bytes)));
                return Ok(fetched);
            }
            () = cx.cancellation().cancelled() => break Error::new(
                ErrorKind::Cancelled,
                format!("the fetch from `{remote}` was cancelled"),
            ),
            () = &mut until => break Error::new(
                ErrorKind::TimedOut,
                format!("the fetch from `{remote}` was not done within {deadline:?}"),
            ),
            () = tokio::time::sleep(TICK) => pass_on(&tree, cx),
        }
    };
    interrupt.store(true, Ordering::Relaxed);
    // Whoever ends by itself leaves nothing behind; whoever hangs is left to its own timeout.
    let ended = tokio::time::timeout(GRACE, &mut answer).await.is_ok();
    Err(if ended {
        stop.remedy("what came over stays and is harmless; try again, or give a longer deadline")
    } else {
        stop.remedy(
            "its thread still waits for the remote and may yet move remote-tracking refs; \
             no branch of this repository was moved",
        )
    })
}

fn pass_on(tree: &gix::progress::tree::Root, cx: &Context) {
    let mut tasks = Vec::new();
    tree.sorted_snapshot(&mut tasks);
    for (_, task) in tasks {
        let Some(value) = task.progress else { continue };
        let done = value.step.load(Ordering::Relaxed) as u64;
        let total = value.done_at.map(|total| total as u64);
        cx.progress().update(&if task.id == RECEIVED_BYTES {
            Update::bytes(task.name, done, total)
        } else {
            Update::items(task.name, done, total)
        });
    }
}

fn work(repo: &gix::Repository, job: Job) -> Result<Fetched, Error> {
    let known = repo.find_remote(job.remote.as_str()).map_err(|source| {
        Error::new(ErrorKind::NotFound, format!("there is no remote `{}`", job.remote))
            .remedy("add it with `git remote add`, or make a mirror")
            .caused_by(source)
    })?;
    let url = known.url(gix::remote::Direction::Fetch).cloned().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("remote `{}` has no URL", job.remote))
            .remedy("set it with `git remote set-url`")
    })?;
    match url.scheme {
        Scheme::File => local::fetch(repo, on_disk(&url.path), job),
        Scheme::Http | Scheme::Https => remote::fetch(repo, known, &url, job),
        other => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("remote `{}`: scheme `{}` is not supported", job.remote, other.as_str()),
        )
        .remedy("use a path, `file`, `http` or `https`")),
    }
}

fn tracking(remote: &str, branch: &BranchName) -> FullName {
    FullName::try_from(format!("refs/remotes/{remote}/{branch}"))
        .expect("a remote's name and a branch's name make a ref's name")
}

/// Removes the remote-tracking refs of branches that the remote has no more. One that stayed would
/// be in the way of a new branch below its name, and gix does not prune.
fn prune(
    repo: &gix::Repository,
    remote: &str,
    branches: &BTreeMap<BranchName, gix::ObjectId>,
) -> Result<(), Error> {
    let doing = || format!("the refs that follow `{remote}` cannot be read");
    let prefix = format!("refs/remotes/{remote}/");
    let mut stale = Vec::new();
    let platform = repo.references().doing(doing)?;
    for reference in platform.prefixed(prefix.as_str()).doing(doing)? {
        let reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let name = reference.name().to_owned();
        let Some(id) = reference.try_id().map(gix::Id::detach) else { continue };
        let short = std::str::from_utf8(name.as_bstr()).ok().and_then(|n| n.strip_prefix(&prefix));
        let known = short
            .and_then(|short| short.parse::<BranchName>().ok())
            .is_some_and(|branch| branches.contains_key(&branch));
        if !known {
            stale.push(Move { name, from: Some(id), to: None, message: String::new() });
        }
    }
    refs::apply(repo, &stale)
}
