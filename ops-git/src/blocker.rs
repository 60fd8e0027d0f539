//! What stands in the way of an operation on a repository.

use std::path::PathBuf;
use std::time::Duration;

use ops_core::{CommitId, Refusal};

use crate::id::BranchName;
use crate::lock_file::LockFile;
use crate::path_bytes::PathBytes;
use crate::worktree::Obstacle;

/// One thing that stands in the way of an operation on a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocker {
    /// Files of the work tree or the index differ from the commit.
    Dirty {
        /// The first of them, at most [`Blocker::LISTED`].
        paths: Vec<PathBytes>,
        /// How many there are.
        total: usize,
    },
    /// Whether the work tree is clean cannot be told, so it counts as not clean.
    StatusUnknown {
        /// Why.
        reason: String,
    },
    /// A merge, rebase, bisect or the like has begun and not ended.
    OperationInProgress {
        /// Which.
        operation: String,
    },
    /// A lock file: another git works there, or died there.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it has been there.
        age: Duration,
        /// Whose it is, as far as the machine tells: an operation of ours, the process that has it
        /// open, the user whose file it is.
        owner: String,
    },
    /// `HEAD` is at a commit and on no branch.
    DetachedHead {
        /// The commit.
        commit: CommitId,
    },
    /// `HEAD` is on another branch than the operation is about.
    WrongBranch {
        /// Where it is.
        current: BranchName,
        /// Where it should be.
        wanted: BranchName,
    },
    /// The branch is checked out in a work tree, which would be left behind if it moved.
    CheckedOut {
        /// The branch.
        branch: BranchName,
        /// The work tree.
        worktree: PathBuf,
    },
    /// Which branch another work tree of the repository is on cannot be told, so it may be the one
    /// that is to move.
    BranchUnknown {
        /// The work tree's git directory.
        git_dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// No remote branch is configured to pull from.
    NoUpstream {
        /// The branch.
        branch: BranchName,
    },
    /// Both sides have commits that the other has not.
    Diverged {
        /// The branch.
        branch: BranchName,
        /// Its tip here.
        local: CommitId,
        /// Its tip on the remote.
        upstream: CommitId,
        /// How many commits only we have.
        ahead: usize,
        /// How many commits only the remote has.
        behind: usize,
    },
    /// The remote's branch was rewritten: what we pulled before is no longer part of it.
    Rewritten {
        /// The branch.
        branch: BranchName,
        /// Its tip here, which the remote once had.
        local: CommitId,
        /// Its tip on the remote.
        upstream: CommitId,
    },
    /// The history is cut off where the answer lies whether this is a fast-forward.
    HistoryCut {
        /// The branch.
        branch: BranchName,
        /// Its tip here.
        local: CommitId,
        /// Its tip on the remote.
        upstream: CommitId,
    },
    /// History is cut off, so that ancestry cannot be told for sure.
    Shallow,
    /// The repository belongs to another user, so its configuration cannot be believed.
    UntrustedOwner {
        /// Whose owner is not us.
        path: PathBuf,
    },
    /// Paths that cannot become what another commit has there.
    Paths {
        /// Why.
        obstacle: Obstacle,
        /// Every one of them.
        paths: Vec<PathBytes>,
    },
    /// A linked work tree is locked, so that nobody takes it away.
    WorktreeLocked {
        /// The work tree.
        worktree: PathBuf,
        /// Why, as whoever locked it says.
        reason: String,
    },
    /// `HEAD` of a work tree is detached at a commit that no branch and no tag leads to.
    OnlyHere {
        /// The work tree.
        worktree: PathBuf,
        /// The commit.
        commit: CommitId,
    },
    /// Only a part of the tree is checked out.
    Sparse,
    /// The index lies in two files.
    SplitIndex,
    /// A checkout was interrupted, and is neither finished nor put back.
    Interrupted {
        /// The operation.
        operation: String,
        /// What it left.
        folder: PathBuf,
    },
    /// There are files that git neither tracks nor ignores.
    Untracked {
        /// The first of them, at most [`Blocker::LISTED`]; a folder of such files counts as one.
        paths: Vec<PathBytes>,
        /// How many there are.
        total: usize,
    },
    /// Conflicts of a merge that nobody resolved.
    Unmerged {
        /// The first of the paths, at most [`Blocker::LISTED`].
        paths: Vec<PathBytes>,
        /// How many there are.
        total: usize,
    },
    /// Files that changed although the index says that nobody need look, so that git's own status
    /// does not tell of them.
    HiddenChanges {
        /// The first of them, at most [`Blocker::LISTED`].
        paths: Vec<PathBytes>,
        /// How many there are.
        total: usize,
    },
    /// A submodule that cannot move along with the tree that holds it.
    Submodule {
        /// Its path.
        path: PathBytes,
        /// Why.
        state: SubmoduleState,
    },
    /// Submodules that are at another commit than the index says, or have changes of their own.
    Submodules {
        /// The first of them, at most [`Blocker::LISTED`].
        paths: Vec<PathBytes>,
        /// How many there are.
        total: usize,
    },
    /// Both sides have commits that the other has not, and none in common.
    Unrelated {
        /// The branch.
        branch: BranchName,
        /// Its tip here.
        local: CommitId,
        /// Its tip on the remote.
        upstream: CommitId,
    },
    /// There is less room than is needed.
    DiskFull {
        /// Where.
        folder: PathBuf,
        /// How many bytes this user can still write there.
        free: u64,
        /// How many are needed.
        needed: u64,
    },
}

/// Why a submodule cannot move along with the tree that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmoduleState {
    /// Its work tree is not there.
    NotThere,
    /// It is not at the commit that the tree records.
    Elsewhere {
        /// Where it is; none on a branch without commits.
        at: Option<CommitId>,
        /// Where it should be.
        expected: CommitId,
    },
    /// The commit that it has to go to is not there.
    CommitMissing {
        /// The commit.
        commit: CommitId,
    },
}

impl SubmoduleState {
    fn refusal(self, path: &PathBytes) -> Refusal {
        match self {
            Self::NotThere => Refusal::new(
                format!("submodule `{path}` is not there"),
                format!("bring it with `git submodule update --init {path}`, or leave it alone"),
            ),
            Self::Elsewhere { at, expected } => Refusal::new(
                format!(
                    "submodule `{path}` is at {}, the tree has it at {expected}",
                    at.map_or_else(|| "no commit".to_owned(), |at| at.to_string())
                ),
                format!("put it there with `git submodule update {path}`, or leave it alone"),
            ),
            Self::CommitMissing { commit } => Refusal::new(
                format!("submodule `{path}` does not have commit {commit}"),
                format!("fetch it with `git -C {path} fetch`, or leave it alone"),
            ),
        }
    }
}

impl Blocker {
    /// How many dirty paths are listed.
    pub const LISTED: usize = 20;

    /// The stable name: `dirty`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dirty { .. } => "dirty",
            Self::StatusUnknown { .. } => "status_unknown",
            Self::OperationInProgress { .. } => "operation_in_progress",
            Self::Locked { .. } => "locked",
            Self::DetachedHead { .. } => "detached_head",
            Self::WrongBranch { .. } => "wrong_branch",
            Self::CheckedOut { .. } => "checked_out",
            Self::BranchUnknown { .. } => "branch_unknown",
            Self::NoUpstream { .. } => "no_upstream",
            Self::Diverged { .. } => "diverged",
            Self::Rewritten { .. } => "rewritten",
            Self::HistoryCut { .. } => "history_cut",
            Self::Shallow => "shallow",
            Self::UntrustedOwner { .. } => "untrusted_owner",
            Self::Paths { .. } => "paths",
            Self::WorktreeLocked { .. } => "worktree_locked",
            Self::OnlyHere { .. } => "only_here",
            Self::Sparse => "sparse",
            Self::SplitIndex => "split_index",
            Self::Interrupted { .. } => "interrupted",
            Self::Untracked { .. } => "untracked",
            Self::Unmerged { .. } => "unmerged",
            Self::HiddenChanges { .. } => "hidden_changes",
            Self::Submodule { .. } => "submodule",
            Self::Submodules { .. } => "submodules",
            Self::Unrelated { .. } => "unrelated",
            Self::DiskFull { .. } => "disk_full",
        }
    }
}

impl From<Blocker> for Refusal {
    fn from(blocker: Blocker) -> Self {
        match blocker {
            Blocker::Dirty { paths, total } => Self::new(
                format!("uncommitted changes: {}", listed(&paths, total)),
                "commit them, stash them, or take them away",
            ),
            Blocker::StatusUnknown { reason } => Self::new(
                format!("whether the work tree is clean cannot be told: {reason}"),
                "repair what is named, then try again",
            ),
            Blocker::OperationInProgress { operation } => Self::new(
                format!("a {operation} is in progress"),
                format!("end it with `git {operation} --continue` or `git {operation} --abort`"),
            ),
            Blocker::Locked { path, age, owner } => Self::new(
                LockFile { path, age, owner }.to_string(),
                "wait for the git that holds it; remove the file only if no git process runs there",
            ),
            Blocker::DetachedHead { commit } => Self::new(
                format!("HEAD is detached at {commit}"),
                "switch to a branch, or name the branch that is meant",
            ),
            Blocker::WrongBranch { current, wanted } => Self::new(
                format!("HEAD is on branch `{current}`, not on `{wanted}`"),
                format!("switch to `{wanted}`, or name `{current}`"),
            ),
            Blocker::CheckedOut { branch, worktree } => Self::new(
                format!(
                    "branch `{branch}` is checked out in `{}`, which would be left behind",
                    worktree.display()
                ),
                "open the repository there and do it there, or switch that work tree away; if it is \
                 gone, `git worktree prune` forgets it",
            ),
            Blocker::BranchUnknown { git_dir, reason } => Self::new(
                format!(
                    "which branch the work tree of `{}` is on cannot be told: {reason}",
                    git_dir.display()
                ),
                "repair what is named; if that work tree is gone, `git worktree prune` forgets it",
            ),
            Blocker::NoUpstream { branch } => Self::new(
                format!("branch `{branch}` has no upstream"),
                format!("set one with `git branch --set-upstream-to=origin/{branch} {branch}`"),
            ),
            Blocker::Diverged { branch, local, upstream, ahead, behind } => Self::new(
                format!(
                    "branch `{branch}` has diverged: here {local} ({ahead} own commits), \
                     upstream {upstream} ({behind} own commits)"
                ),
                "push, rebase or merge the own commits first",
            ),
            Blocker::Rewritten { branch, local, upstream } => Self::new(
                format!(
                    "the history of branch `{branch}` was rewritten upstream: here {local}, \
                     upstream {upstream}, which does not contain it"
                ),
                "find out who force-pushed and why; then pull with `Rewritten::Follow`, which keeps the \
                 old tip",
            ),
            Blocker::HistoryCut { branch, local, upstream } => Self::new(
                format!(
                    "whether branch `{branch}` can be fast-forwarded cannot be told, for its history \
                     is cut off: here {local}, upstream {upstream}"
                ),
                "pull with `History::Deepen` or `History::Complete`",
            ),
            Blocker::Shallow => Self::new(
                "the repository is shallow: its history is cut off",
                "fetch the rest with `git fetch --unshallow`",
            ),
            Blocker::UntrustedOwner { path } => Self::new(
                format!("`{}` belongs to another user", path.display()),
                "run as its owner, or give it to the user that runs this",
            ),
            Blocker::Paths { obstacle, paths } => {
                Self::new(format!("{obstacle}: {}", listed(&paths, paths.len())), obstacle.remedy())
            }
            Blocker::WorktreeLocked { worktree, reason } => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                Self::new(
                    format!("work tree `{}` is locked{why}", worktree.display()),
                    "find out why; then let it go with `git worktree unlock`",
                )
            }
            Blocker::OnlyHere { worktree, commit } => Self::new(
                format!(
                    "`{}` is at {commit}, which no branch and no tag leads to",
                    worktree.display()
                ),
                format!("keep it with `git branch <name> {commit}`"),
            ),
            Blocker::Sparse => Self::new(
                "only a part of the tree is checked out",
                "check the whole of it out with `git sparse-checkout disable`",
            ),
            Blocker::SplitIndex => Self::new(
                "the index is split into two files",
                "join them with `git update-index --no-split-index`",
            ),
            Blocker::Interrupted { operation, folder } => Self::new(
                format!("checkout {operation} was interrupted, see `{}`", folder.display()),
                "call `recover` with the state directory of the program that began it",
            ),
            Blocker::Untracked { paths, total } => Self::new(
                format!("files that git does not track: {}", listed(&paths, total)),
                "add them, ignore them, take them away, or allow untracked files",
            ),
            Blocker::Unmerged { paths, total } => Self::new(
                format!("conflicts that are not resolved: {}", listed(&paths, total)),
                "resolve them and commit, or abort what began them",
            ),
            Blocker::HiddenChanges { paths, total } => Self::new(
                format!("changes that the index hides: {}", listed(&paths, total)),
                "show them with `git update-index --no-assume-unchanged --no-skip-worktree \
                 --no-fsmonitor-valid`, then commit them or take them away",
            ),
            Blocker::Submodule { path, state } => state.refusal(&path),
            Blocker::Submodules { paths, total } => Self::new(
                format!("submodules that are not as the index says: {}", listed(&paths, total)),
                "commit them, put them back with `git submodule update`, or allow submodules",
            ),
            Blocker::Unrelated { branch, local, upstream } => Self::new(
                format!(
                    "branch `{branch}` and its upstream have no commit in common: here {local}, \
                     upstream {upstream}"
                ),
                "find out which of the two is meant; then set another upstream, or mirror afresh",
            ),
            Blocker::DiskFull { folder, free, needed } => Self::new(
                format!("`{}` has room for {free} bytes, {needed} are needed", folder.display()),
                "make room there",
            ),
        }
    }
}

/// The first paths, and how many more there are.
fn listed(paths: &[PathBytes], total: usize) -> String {
    let first = &paths[..paths.len().min(Blocker::LISTED)];
    let names: Vec<_> = first.iter().map(|path| format!("`{path}`")).collect();
    let more = match total - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The commit that `HEAD` points to; none in a repository without commits.
    pub head: Option<CommitId>,
    /// The branch that `HEAD` is on; none if it is detached.
    pub branch: Option<BranchName>,
    /// The remote branch that it is pulled from, such as `origin/main`.
    pub upstream: Option<String>,
    /// Whether there is no work tree.
    pub bare: bool,
    /// Everything that stands in the way.
    pub blockers: Vec<Blocker>,
}

impl Inspection {
    /// Whether nothing stands in the way.
    pub fn is_clear(&self) -> bool {
        self.blockers.is_empty()
    }

    /// Counts it as a blocker too if `HEAD` is on another branch than this one.
    pub fn expecting(mut self, wanted: &BranchName) -> Self {
        if let Some(current) = self.branch.clone().filter(|current| current != wanted) {
            self.blockers.push(Blocker::WrongBranch { current, wanted: wanted.clone() });
        }
        self
    }

    /// Every blocker as a refusal with its remedy.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.blockers.iter().cloned().map(Refusal::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blocker_says_what_is_wrong_and_what_to_do() {
        let branch = || "main".parse::<BranchName>().unwrap();
        let commit = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        for (blocker, text) in [
            (
                Blocker::Dirty { paths: vec![PathBytes::new("a b"), PathBytes::new("c")], total: 5 },
                "uncommitted changes: `a b`, `c` and 3 more (commit them, stash them, or take them \
                 away)"
                    .to_owned(),
            ),
            (
                Blocker::Locked {
                    path: "/r/index.lock".into(),
                    age: Duration::from_secs(7),
                    owner: "user `ada`".into(),
                },
                "lock file `/r/index.lock`, 7 s old, of user `ada` (wait for the git that holds it; remove the \
                 file only if no git process runs there)"
                    .to_owned(),
            ),
            (
                Blocker::OperationInProgress { operation: "rebase".into() },
                "a rebase is in progress (end it with `git rebase --continue` or `git rebase \
                 --abort`)"
                    .to_owned(),
            ),
            (
                Blocker::Diverged {
                    branch: branch(),
                    local: commit("a"),
                    upstream: commit("b"),
                    ahead: 1,
                    behind: 2,
                },
                format!(
                    "branch `main` has diverged: here {a} (1 own commits), upstream {b} (2 own \
                     commits) (push, rebase or merge the own commits first)"
                ),
            ),
            (
                Blocker::Rewritten { branch: branch(), local: commit("a"), upstream: commit("b") },
                format!(
                    "the history of branch `main` was rewritten upstream: here {a}, upstream {b}, \
                     which does not contain it (find out who force-pushed and why; then pull with \
                     `Rewritten::Follow`, which keeps the old tip)"
                ),
            ),
            (
                Blocker::NoUpstream { branch: branch() },
                "branch `main` has no upstream (set one with `git branch \
                 --set-upstream-to=origin/main main`)"
                    .to_owned(),
            ),
            (
                Blocker::Shallow,
                "the repository is shallow: its history is cut off (fetch the rest with `git fetch \
                 --unshallow`)"
                    .to_owned(),
            ),
        ] {
            assert_eq!(Refusal::from(blocker).to_string(), text);
        }
    }
}
