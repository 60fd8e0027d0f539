//! Bringing objects and remote-tracking refs here: the one thing that planning changes.
//!
//! Over http, https and ssh gix speaks the protocol, on connections of our own that can always be
//! ended. From a path we read the other repository ourselves, because gix would start a
//! `git-upload-pack` for that, and this crate needs no git program.
//!
//! The order is what makes it safe to end at any instant: the pack is received beside the others,
//! made durable and put among them; then the boundary of a shallow history; then the refs.

mod child;
mod connected;
mod credential_helpers;
mod follow;

mod http;
mod incoming;
mod link;
mod local;
mod login;
mod pack;
mod remote;
mod settings;
mod shallow;
mod ssh;
mod words;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gix::refs::FullName;
use gix::url::Scheme;
use ops_core::progress::Update;
use ops_core::{Class, Context};
use tokio::sync::oneshot;

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind};
use crate::id::BranchName;
use crate::path_bytes::on_disk;
use crate::remote_url::shown;
use crate::repository::GitRepository;
use link::{Link, Stop};
use remote::Failure;

pub(crate) use follow::tidy;
pub(crate) use shallow::boundary;

/// How often progress is passed on.
const TICK: Duration = Duration::from_millis(100);

/// How long a fetch that was asked to end may take to do so before it is left alone: all of its
/// waits end at once, so this is for a disk that hangs.
const GRACE: Duration = Duration::from_secs(5);

/// gix's name for the count of bytes that came over; its units cannot be compared.
const RECEIVED_BYTES: gix::progress::Id = *b"BWRB";

/// How much of the history is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum History {
    /// All that is new. A repository that is shallow stays so, and gets whatever lies on top of what
    /// it has. The default.
    #[default]
    New,
    /// Where nothing has been fetched yet: at most so many commits of each branch, counted from
    /// its tip. Where something has, the same as [`New`](Self::New): history that is here is never
    /// cut off.
    AtMost(NonZeroU32),
    /// So many commits more, below where the history is cut off now.
    Deepen(NonZeroU32),
    /// Everything: the repository is shallow no more.
    Complete,
}

/// A tag of the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// What the ref holds.
    id: gix::ObjectId,
    /// What that leads to in the end.
    target: gix::ObjectId,
}

/// What the remote has, and what came over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// Every branch of the remote.
    pub branches: BTreeMap<BranchName, gix::ObjectId>,
    /// Every tag of the remote.
    pub tags: BTreeMap<FullName, Tag>,
    /// The remote's own `HEAD`, where it says so.
    pub head: Option<BranchName>,
    /// The tags that are elsewhere here.
    pub moved_tags: Vec<String>,
    /// How many objects came over.
    pub objects: u64,
    /// How large the pack is that they lie in now.
    pub bytes: u64,
    object_hash: Option<gix::hash::Kind>,
}

/// What a fetch is to do.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    /// Bring objects, and let refs follow.
    Fetch(History),
    /// Only ask which branches there are.
    List,
}

/// Everything that a fetch needs on its thread.
#[derive(Debug)]
struct Job {
    remote: String,
    task: Task,
    /// Whether tags come along, as `remote.<name>.tagOpt` says.
    tags: bool,
    credentials: Option<Credentials>,
    stop: Stop,
    progress: gix::progress::tree::Item,
}

/// Asks the thread to end when its caller is dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Does this with a remote, on a thread of its own: not one of the runtime's, whose shutdown would
/// wait for it.
///
/// When it returns, in whatever way, thread and child processes have ended; when its future is
/// dropped they end within a second. A disk that hangs is not waited for longer than [`GRACE`]: the
/// thread is then left, and ends once it goes on, with remote-tracking refs moved if it was at that.
pub(crate) async fn fetch(
    repository: &GitRepository,
    remote: &str,
    task: Task,
    deadline: Duration,
    cx: &Context,
) -> Result<Fetched, Error> {
    let stop = Stop::default();
    let _on_drop = StopOnDrop(stop.clone());
    let tree = gix::progress::tree::Root::new();
    let job = Job {
        remote: remote.to_owned(),
        task,
        tags: true,
        credentials: repository.credentials().cloned(),
        stop: stop.clone(),
        progress: tree.add_child("fetch"),
    };
    let link = Link::new(stop.clone(), cx.redactor().clone())?;
    let (sender, mut answer) = oneshot::channel();
    let on_thread = repository.clone();
    std::thread::Builder::new()
        .name("ops-git-fetch".into())
        .spawn(move || {
            let done = on_thread.handle().and_then(|repo| work(&repo, job, &link));
            drop(link);
            // Nobody listens any more if the caller gave up.
            let _ = sender.send(done);
        })
        .map_err(|source| Error::new(ErrorKind::Io, "no thread for the fetch").caused_by(source))?;

    let mut until = cx.clock().sleep(deadline);
    let why = loop {
        tokio::select! {
            biased;
            answer = &mut answer => {
                let fetched = answer.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Git, format!("the fetch from `{remote}` panicked")))
                })?;
                pass_on(&tree, cx);
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
    stop.raise();
    let ended = tokio::time::timeout(GRACE, &mut answer).await.is_ok();
    Err(if ended {
        why.remedy("what came over stays and is harmless; try again, or give a longer deadline")
    } else {
        why.remedy("its thread waits for the disk; no branch of this repository was moved")
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

fn work(
    repo: &gix::Repository,
    mut job: Job,
    link: &std::sync::Arc<Link>,
) -> Result<Fetched, Error> {
    if repo.git_dir_trust() != gix::sec::Trust::Full {
        // Its configuration names programs.
        let path = repo.git_dir().to_owned();
        let reasons = vec![crate::blocker::Blocker::UntrustedOwner { path }.into()];
        return Err(Error::refused("nothing can be fetched here", reasons));
    }
    let known = match repo.try_find_remote(job.remote.as_str()) {
        Some(Ok(known)) => known,
        // Its error would show the URL, whatever is in it.
        Some(Err(_)) => {
            let what = format!("the URL or a refspec of remote `{}` cannot be read", job.remote);
            return Err(Error::new(ErrorKind::InvalidInput, what)
                .remedy("see what `git remote -v` says, and repair it"));
        }
        None => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no remote `{}`", job.remote),
            )
            .remedy("add it with `git remote add`, or make a mirror"));
        }
    };
    job.tags = known.fetch_tags() != gix::remote::fetch::Tags::None;
    let url = known.url(gix::remote::Direction::Fetch).cloned().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("remote `{}` has no URL", job.remote))
            .remedy("set it with `git remote set-url`")
    })?;
    let name = format!("`{}` ({})", job.remote, shown(&url));
    let mut fetched = match url.scheme {
        Scheme::File => {
            let fetched = local::fetch(repo, on_disk(&url.path), &mut job);
            fetched.map_err(|error| no_space(error, repo))?
        }
        Scheme::Http | Scheme::Https => {
            let credentials = job.credentials.take();
            let mut transport = http::connect(repo, &job.remote, &url, credentials, link)?;
            talk(repo, &mut transport, &mut job).map_err(|failure| {
                let what = format!("fetch from {name} failed");
                explained(failure, repo, link, |_| {
                    Error::new(ErrorKind::Remote, what)
                        .remedy("check that the remote is up and serves this repository")
                })
            })?
        }
        Scheme::Ssh => {
            let mut ssh = ssh::connect(repo, &url, link)?;
            match talk(repo, &mut ssh.transport, &mut job) {
                Ok(fetched) => {
                    ssh.close();
                    fetched
                }
                Err(failure) => {
                    let what = format!("fetch from {name} failed");
                    return Err(explained(failure, repo, link, |_| ssh.explain(&what)));
                }
            }
        }
        other => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("remote `{}`: scheme `{}` is not supported", job.remote, other.as_str()),
            )
            .remedy("use a path, `file`, `http`, `https` or `ssh`"));
        }
    };
    if let Task::Fetch(_) = job.task {
        fetched.moved_tags = follow::follow(repo, &job, &fetched)?;
    }
    Ok(fetched)
}

/// Lists what the remote has, and receives what is missing.
fn talk(
    repo: &gix::Repository,
    transport: &mut impl gix::protocol::transport::client::blocking_io::Transport,
    job: &mut Job,
) -> Result<Fetched, Failure> {
    let listed = remote::list(transport, job)?;
    if let Some(theirs) = listed.fetched.object_hash {
        same_hash(repo, &job.remote, theirs)?;
    }
    let Task::Fetch(history) = job.task else { return Ok(listed.fetched) };
    let shallow = shallow::asked(repo, &job.remote, history)?;
    remote::receive(repo, transport, listed, &shallow, job)
}

fn same_hash(repo: &gix::Repository, remote: &str, theirs: gix::hash::Kind) -> Result<(), Error> {
    if theirs == repo.object_hash() {
        return Ok(());
    }
    let what =
        format!("remote `{remote}` uses {theirs} ids, this repository {}", repo.object_hash());
    Err(Error::new(ErrorKind::Remote, what).class_of(Class::Permanent))
}

/// The best of what is known of a failure: what our own streams met, what is wrong here, and only
/// then what gix makes of it.
fn explained(
    failure: Failure,
    repo: &gix::Repository,
    link: &Link,
    otherwise: impl FnOnce(&gix::Error) -> Error,
) -> Error {
    let source = match failure {
        Failure::Here(error) => return no_space(error, repo),
        Failure::Talk(source) => source,
    };
    if link.stop.is_raised() {
        return Error::new(ErrorKind::Cancelled, "the fetch was asked to end").caused_by(source);
    }
    if let Some(cause) = link.cause() {
        return cause;
    }
    let full = source
        .iter_errors()
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::StorageFull);
    if full {
        return disk_full(repo).caused_by(source);
    }
    if ops_core::error::chain(&source).iter().any(|text| text.contains("shallow remotes")) {
        return Error::new(ErrorKind::HistoryUnavailable, "the remote's own history is cut off")
            .remedy(
                "complete it there with `git fetch --unshallow`, or pull from where it came from",
            )
            .caused_by(source);
    }
    otherwise(&source).caused_by(source)
}

fn no_space(error: Error, repo: &gix::Repository) -> Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(&error);
    while let Some(source) = next {
        let full = source
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        if full {
            return disk_full(repo).caused_by(error);
        }
        next = source.source();
    }
    error
}

fn disk_full(repo: &gix::Repository) -> Error {
    let folder = repo.objects.store_ref().path();
    Error::new(ErrorKind::Io, format!("there is no room for the pack in `{}`", folder.display()))
        .remedy("make room there; nothing was moved, and what had come over is gone again")
}
