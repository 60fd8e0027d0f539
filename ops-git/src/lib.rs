//! Git for operations: pull, checkout, merge and export as plans of reversible steps, without a git
//! program.
//!
//! ```
//! use ops_core::{Context, Environment};
//! use ops_git::{MemoryRepository, VersionControl};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let (state, releases) = (dir.path().join("state"), dir.path().join("releases"));
//! // In production: GitRepository::mirror("https://example.org/app.git", "/srv/app.git")?
//! let app = MemoryRepository::new("app");
//! let commit = app.commit("Greet", [("hello.txt", "hello")]);
//!
//! let cx = Context::builder(state).environment(Environment::Development).build();
//! app.safe_pull(&cx).await?;
//! let version = app.versions(1).await?.remove(0).version;
//! let plan = app.plan_export(version.as_str(), &releases.join(version.as_str())).await?;
//! println!("{plan}"); // the dry run
//! app.execute(plan, &cx).await?;
//! assert!(releases.join(commit.version().as_str()).join("hello.txt").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A repository is on disk, as a [`GitRepository`], or in memory for tests, as a
//! [`MemoryRepository`]; programs hold either as `dyn` [`VersionControl`]. Remotes are paths, and
//! http, https and ssh URLs; [`Credentials`] or git's own helpers answer those that ask who this is,
//! and nobody is ever prompted. Whatever hangs ends at the deadline of its [`PullOptions`].
//!
//! A merge is tried in memory first: [`GitRepository::preview_merge`] says every conflict at once,
//! with its paths and versions, and nothing is written and nothing moves. Its answer is git's own,
//! or a refusal: where what git would do is too close to call, that is a [`Caution`].
//!
//! [`GitRepository::safe_checkout`] makes a work tree another version's in place, by renames, and
//! goes back to the very bytes if it is interrupted; what belongs to neither version is saved below
//! `.git/ops-git/lost`. A pull, a merge and a rollback of the branch that the work tree is on move it
//! along in the same way. [`GitRepository::add_worktree`] and [`GitRepository::remove_worktree`] make
//! linked work trees and take them away.
//!
//! | feature | what it brings |
//! |---|---|
//! | `test-util` | `contract`, the suite for implementations of [`VersionControl`] |
//!
//! # Limits
//!
//! A checkout in place needs the work tree and its `.git` on one file system that can exchange names
//! atomically (ext4, xfs, btrfs, tmpfs); sparse and split indexes are refused. Submodules' own
//! work trees are left alone, or by [`SubmodulePolicy`] switched along; none is fetched or made. A
//! branch that another work tree is on is refused.
//!
//! Filters of the repository (LFS among them) and merge programs run in process groups of their own, and
//! are ended with the operation that they are part of; those of a plan or an inspection when its future
//! is dropped, or after half an hour together. One that leaves its group (`setsid`) is not ended, and
//! holds the work for as long as it keeps its output open.
//!
//! An export refuses submodules by name. `export-subst` is not applied. Over ssh the `ssh` program is
//! needed. Merges are neither signed nor given notes or hooks; a merge with more than two parents is
//! none. Unix only.

mod ahead_behind;
mod blocker;
mod bound;
mod branch;
mod checked_out;
mod checkout;
#[cfg(feature = "test-util")]
pub mod contract;
mod credentials;
mod error;
mod export;
mod fast_forward;
mod fetch;
mod filter;
mod id;
mod identity;
mod inspect;
mod linked;
mod lock_file;
mod memory;
mod merge;
mod mirror;
mod objects;
mod path_bytes;
mod presence;
mod probe;
mod pull;
mod pulled;
mod recovery_ref;
mod refs;
mod remote_url;
mod repository;
mod room;
mod shell;
mod step;
mod tag;
mod version_control;
mod versions;
mod worktree;

pub use blocker::{Blocker, Inspection, SubmoduleState};
pub use checkout::CheckoutOptions;
pub use credentials::{Credentials, Login};
pub use error::{Error, ErrorKind};
pub use fetch::History;
pub use id::BranchName;
pub use identity::Identity;
pub use inspect::InspectOptions;
pub use linked::{LinkedWorktree, RemoveWorktreeOptions};
pub use memory::{MemoryRepository, MemoryStep};
pub use merge::{
    Caution, Conflict, ConflictKind, FastForward, MergeCommit, MergeOptions, MergePreview,
    MergeResult, Stage,
};
pub use path_bytes::PathBytes;
pub use probe::{BehindUpstream, RepositoryClean};
pub use pull::{PullOptions, PullPolicy, Rewritten};
pub use pulled::Pulled;
pub use repository::GitRepository;
pub use step::GitStep;
pub use tag::{TagName, TagOptions, Tagging};
pub use version_control::VersionControl;
pub use versions::VersionInfo;
pub use worktree::{HeadPosition, Obstacle, SubmodulePolicy};
