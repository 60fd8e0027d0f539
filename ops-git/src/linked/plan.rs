//! Adding and taking away linked work trees, as plans.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ops_core::{Context, Plan, Refusal, Report};

use super::add::occupied;
use super::list::{LinkedWorktree, all, resolved};
use super::remove::Removal;
use crate::blocker::Blocker;
use crate::checked_out::anywhere;
use crate::checkout::{CheckoutOptions, Steps, target};
use crate::error::{Error, ErrorKind};
use crate::id::object_id;
use crate::inspect::of_the_repository;
use crate::path_bytes::PathBytes;
use crate::repository::{GitRepository, open_git_dir};
use crate::step::GitStep;
use crate::versions::version_of;
use crate::worktree::{self, HeadPosition, Switch};

/// How to take a linked work tree away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveWorktreeOptions {
    /// Takes it away with local changes, staged changes, untracked and ignored files: the whole
    /// folder is then kept below `.git/ops-git/lost/<operation>`, and its index. Default: no, and
    /// each of them is named.
    pub keep_changes: bool,
    /// Lets ignored files go for good, as git does. Default: no, they are in the way.
    pub discard_ignored: bool,
}

impl RemoveWorktreeOptions {
    /// Keeps what is changed or untracked elsewhere, and takes the work tree away.
    pub fn keep_changes(mut self) -> Self {
        self.keep_changes = true;
        self
    }

    /// Lets ignored files go for good.
    pub fn discard_ignored(mut self) -> Self {
        self.discard_ignored = true;
        self
    }
}

impl GitRepository {
    /// Plans a linked work tree at a path that is free: with a branch, and its `HEAD` is on it;
    /// with anything else that names a commit, or by the options, and it is detached. Reads only.
    /// It has to be on the file system of the repository.
    ///
    /// Facts of the plan: `work_tree`, `name`, `head_after`, `sha_after`, `files_new`.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once, such as a branch that another work
    /// tree is on; those of [`resolve`](Self::resolve).
    pub async fn plan_add_worktree(
        &self,
        path: impl AsRef<Path>,
        version: &str,
        options: CheckoutOptions,
    ) -> Result<Plan, Error> {
        let folder = resolved(path.as_ref())?;
        let (this, version) = (self.clone(), version.to_owned());
        self.blocking(move |repo| add(&this, repo, &folder, &version, &options)).await
    }

    /// Makes a linked work tree: [`plan_add_worktree`](Self::plan_add_worktree), approved and run.
    /// If it does not end in its new state, neither its folder nor git's record of it is there.
    ///
    /// # Errors
    /// Those of [`plan_add_worktree`](Self::plan_add_worktree) and [`execute`](Self::execute).
    pub async fn add_worktree(
        &self,
        cx: &Context,
        path: impl AsRef<Path>,
        version: &str,
    ) -> Result<Report, Error> {
        let plan = self.plan_add_worktree(path, version, CheckoutOptions::default()).await?;
        self.execute(plan, cx).await
    }

    /// Plans to take a linked work tree away. Reads only. The branch that it is on stays.
    ///
    /// Facts of the plan: `work_tree`, `name`, `head_before`, `sha_before`.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with every [`Blocker`] at once: changes and untracked files unless
    /// the options keep them, a lock, an operation in progress, a commit that no branch leads to.
    /// [`ErrorKind::NotFound`] with the work trees that there are.
    pub async fn plan_remove_worktree(
        &self,
        path: impl AsRef<Path>,
        options: RemoveWorktreeOptions,
    ) -> Result<Plan, Error> {
        let folder = resolved(path.as_ref())?;
        let this = self.clone();
        self.blocking(move |repo| remove(&this, repo, &folder, options)).await
    }

    /// Takes a linked work tree away: [`plan_remove_worktree`](Self::plan_remove_worktree),
    /// approved and run. Until the commit it lies beside, as it was.
    ///
    /// # Errors
    /// Those of [`plan_remove_worktree`](Self::plan_remove_worktree) and
    /// [`execute`](Self::execute).
    pub async fn remove_worktree(
        &self,
        cx: &Context,
        path: impl AsRef<Path>,
    ) -> Result<Report, Error> {
        let plan = self.plan_remove_worktree(path, RemoveWorktreeOptions::default()).await?;
        self.execute(plan, cx).await
    }
}

fn add(
    this: &GitRepository,
    repo: &gix::Repository,
    folder: &Path,
    version: &str,
    options: &CheckoutOptions,
) -> Result<Plan, Error> {
    let (commit, branch) = target(repo, version)?;
    // What goes on in another work tree is no concern of the new one.
    let mut blockers = of_the_repository(repo)?;
    blockers.retain(|blocker| match blocker {
        Blocker::Shallow | Blocker::OperationInProgress { .. } | Blocker::Interrupted { .. } => {
            false
        }
        Blocker::Locked { path, .. } => {
            !path.ends_with("index.lock") && !path.ends_with("HEAD.lock")
        }
        _ => true,
    });
    let head = match branch.filter(|_| !options.detach) {
        Some(branch) => {
            blockers.extend(anywhere(repo, &branch)?);
            HeadPosition::Branch { branch }
        }
        None => HeadPosition::Commit { commit: commit.clone() },
    };
    let (files, hostile) = worktree::foresee_new(repo, &commit)?;
    blockers.extend(hostile);
    let mut reasons: Vec<_> = blockers.into_iter().map(Refusal::from).collect();
    reasons.extend(occupied(folder)?);
    reasons.extend(misplaced(this, repo, folder)?);
    if !reasons.is_empty() {
        let what = format!("no work tree can be added at `{}`", folder.display());
        return Err(Error::refused(what, reasons));
    }
    let name = free_name(repo, folder)?;
    let plan = Plan::new("add_worktree")
        .version(version_of(repo, object_id(&commit)?)?)
        .fact("work_tree", folder.display())
        .fact("name", &name)
        .fact("head_after", &head)
        .fact("sha_after", &commit)
        .fact("files_new", files);
    let switch = Switch {
        old: Some(commit.clone()),
        new: commit.clone(),
        head_from: head.clone(),
        head_to: head.clone(),
        overwrite_ignored: false,
        whole_index: false,
    };
    // It cannot be looked at before it is there.
    let Steps { switch, verify, release, .. } =
        Steps::of(&super::admin(this.common_dir(), &name), switch, None);
    let folder = PathBytes::from(folder);
    Ok(plan
        .change(this, &GitStep::AddWorktree { folder, name: name.clone(), head, commit })?
        .change(this, &switch)?
        .change(this, &verify)?
        .finisher(this, &release)?
        .finisher(this, &GitStep::ReleaseAddedWorktree { name })?)
}

/// Why a path is no place for a work tree of this repository.
fn misplaced(
    this: &GitRepository,
    repo: &gix::Repository,
    folder: &Path,
) -> Result<Vec<Refusal>, Error> {
    let mut reasons = Vec::new();
    let known = all(repo)?.into_iter().find(|one| one.path == folder);
    if let Some(LinkedWorktree { name, missing: true, .. }) = known {
        reasons.push(Refusal::new(
            format!("`{}` is where the missing work tree `{name}` was", folder.display()),
            "forget it with `git worktree prune`",
        ));
    }
    if folder.starts_with(this.common_dir()) {
        reasons.push(Refusal::new(
            format!("`{}` lies in the repository itself", folder.display()),
            "give a path outside of it",
        ));
    }
    let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
    let nearest = folder.ancestors().find(|level| level.exists());
    if nearest.and_then(device) != device(this.common_dir()) {
        reasons.push(Refusal::new(
            format!("`{}` lies on another file system than the repository", folder.display()),
            "keep the work tree and its repository on one file system",
        ));
    }
    Ok(reasons)
}

/// A name that no work tree has, as git makes it of the folder's.
fn free_name(repo: &gix::Repository, folder: &Path) -> Result<String, Error> {
    let wanted: String = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    let wanted = wanted.trim_matches(['.', '-']).replace("..", "-");
    let wanted = wanted.strip_suffix(".lock").unwrap_or(&wanted);
    let wanted = if wanted.is_empty() { "worktree" } else { wanted };
    let folder = repo.common_dir().join("worktrees");
    (0..10_000)
        .map(|n| if n == 0 { wanted.to_owned() } else { format!("{wanted}{n}") })
        .find(|name| folder.join(name).symlink_metadata().is_err())
        .ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("too many work trees are named `{wanted}`"))
                .remedy("take some away with `git worktree prune`, or give another name")
        })
}

fn remove(
    this: &GitRepository,
    repo: &gix::Repository,
    folder: &Path,
    options: RemoveWorktreeOptions,
) -> Result<Plan, Error> {
    let known = all(repo)?;
    let Some(found) = known.iter().find(|one| one.path == folder) else {
        let names: Vec<_> = known.iter().map(|one| format!("`{}`", one.path.display())).collect();
        let what = format!("`{}` is no linked work tree of this repository", folder.display());
        let there = if names.is_empty() { "none at all".into() } else { names.join(", ") };
        return Err(Error::new(ErrorKind::NotFound, what).remedy(format!("it has {there}")));
    };
    let refuse = |reason: String, remedy: &str| {
        let what = format!("work tree `{}` cannot be taken away", folder.display());
        Err(Error::refused(what, vec![Refusal::new(reason, remedy)]))
    };
    if found.missing {
        return refuse("its folder is gone".into(), "forget it with `git worktree prune`");
    }
    let removal = Removal {
        common_dir: this.common_dir().to_owned(),
        folder: folder.to_owned(),
        name: found.name.clone(),
        keep_changes: options.keep_changes,
        discard_ignored: options.discard_ignored,
    };
    let admin = super::admin(this.common_dir(), &found.name);
    if this.git_dir() == admin {
        return refuse(
            "the repository was opened there".into(),
            "open its main work tree or its git directory instead",
        );
    }
    let reasons = removal.check()?;
    if !reasons.is_empty() {
        let what = format!("work tree `{}` cannot be taken away", folder.display());
        return Err(Error::refused(what, reasons));
    }
    let (head, commit) = worktree::head_now(&open_git_dir(&admin)?)?;
    let mut plan = Plan::new("remove_worktree")
        .fact("work_tree", folder.display())
        .fact("name", &found.name)
        .fact("head_before", head);
    if let Some(commit) = commit {
        plan = plan.fact("sha_before", commit);
    }
    let (folder, name) = (PathBytes::from(folder), found.name.clone());
    let RemoveWorktreeOptions { keep_changes, discard_ignored } = options;
    let release = GitStep::ReleaseRemovedWorktree {
        folder: folder.clone(),
        name: name.clone(),
        keep_changes,
        discard_ignored,
    };
    let step = GitStep::RemoveWorktree { folder, name, keep_changes, discard_ignored };
    Ok(plan.change(this, &step)?.finisher(this, &release)?)
}
