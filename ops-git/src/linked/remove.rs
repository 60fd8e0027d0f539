//! Taking a linked work tree away: aside first, gone after the commit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use ops_core::{OperationId, Refusal, fault};

use super::{admin, foreign, is_marked, mark, own_folder, tidy, unmark, write_new};
use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind};
use crate::inspect::of_the_repository;
use crate::path_bytes::PathBytes;
use crate::presence;
use crate::refs;
use crate::repository::open_git_dir;
use crate::worktree::{self, FOLDER, Obstacle, Present};

/// A linked work tree that is to go.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub common_dir: PathBuf,
    pub folder: PathBuf,
    pub name: String,
    pub keep_changes: bool,
    pub discard_ignored: bool,
}

impl Removal {
    fn admin(&self) -> PathBuf {
        admin(&self.common_dir, &self.name)
    }

    /// Beside, since a rename stays on one file system.
    fn aside(&self, id: OperationId) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        self.folder.with_file_name(format!(".{name}.ops-git-{id}"))
    }

    /// Everything against it.
    pub fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        let repo = open_git_dir(&self.admin())?;
        let mut blockers = of_the_repository(&repo)?;
        blockers.retain(|blocker| !matches!(blocker, Blocker::Shallow));
        if let Some(reason) = presence::read(&self.admin().join("locked"))? {
            let reason = String::from_utf8_lossy(&reason).trim().to_owned();
            blockers.push(Blocker::WorktreeLocked { worktree: self.folder.clone(), reason });
        }
        let only_here = worktree::only_here(&repo)?;
        if let Some(commit) = only_here {
            blockers.push(Blocker::OnlyHere { worktree: self.folder.clone(), commit });
        }
        blockers.extend(self.in_the_way(&repo, &self.folder, Present::AndMissing)?);
        Ok(blockers)
    }

    pub fn check(&self) -> Result<Vec<Refusal>, Error> {
        Ok(self.blockers()?.into_iter().map(Refusal::from).collect())
    }

    /// What lies in the folder, now at `root`, and may not go.
    fn in_the_way(
        &self,
        repo: &gix::Repository,
        root: &std::path::Path,
        which: Present,
    ) -> Result<Vec<Blocker>, Error> {
        let mut grouped: BTreeMap<Obstacle, Vec<PathBytes>> = BTreeMap::new();
        for (obstacle, path) in worktree::unclean(repo, root, which)? {
            let may_go = match obstacle {
                Obstacle::Ignored => self.keep_changes || self.discard_ignored,
                // Its history lies in the folder that would go.
                Obstacle::Submodule => false,
                _ => self.keep_changes,
            };
            if !may_go {
                grouped.entry(obstacle).or_default().push(PathBytes::new(path));
            }
        }
        let named = grouped.into_iter();
        Ok(named.map(|(obstacle, paths)| Blocker::Paths { obstacle, paths }).collect())
    }

    fn expect_clean(&self, root: &std::path::Path, which: Present) -> Result<(), Error> {
        let found = self.in_the_way(&open_git_dir(&self.admin())?, root, which)?;
        if found.is_empty() {
            return Ok(());
        }
        let reasons = found.into_iter().map(Refusal::from).collect();
        Err(Error::refused("the work tree cannot be taken away", reasons))
    }

    pub fn run(&self, id: OperationId) -> Result<(), Error> {
        let (admin, aside) = (self.admin(), self.aside(id));
        if !is_marked(&admin, id)? {
            // Linked whole, so that nobody finds an empty lock.
            let own = own_folder(&self.common_dir, id);
            ops_core::fs::create_dir_durable(&own)?;
            let (draft, lock) = (own.join("locked"), admin.join("locked"));
            ops_core::fs::remove_file_durable(&draft)?;
            write_new(&draft, mark(id).as_bytes())?;
            ops_core::fs::rename_noreplace(&draft, &lock)?;
            tidy(&self.common_dir, id);
        }
        fault::point("git-worktree-marked");
        if !presence::is_at(&aside)? {
            self.expect_clean(&self.folder, Present::AndMissing)?;
            ops_core::fs::rename_noreplace(&self.folder, &aside)?;
            fault::point("git-worktree-aside");
        }
        // What somebody wrote in that very moment is seen now, and goes back with the rest.
        self.expect_clean(&aside, Present::AndMissing)
    }

    pub fn undo(&self, id: OperationId) -> Result<(), Error> {
        let aside = self.aside(id);
        if presence::is_at(&aside)? {
            if presence::is_at(&self.folder)? {
                let (folder, aside) = (self.folder.display(), aside.display());
                return Err(foreign(format!(
                    "`{folder}` was made anew, and its old self is `{aside}`"
                )));
            }
            ops_core::fs::rename_noreplace(&aside, &self.folder)?;
            fault::point("git-worktree-aside-back");
        } else if let Some(parent) = self.folder.parent() {
            // One that was killed may have put it back unsynced.
            refs::sync_if_there(parent)?;
        }
        let own = own_folder(&self.common_dir, id);
        ops_core::fs::remove_file_durable(&own.join("locked"))?;
        unmark(&self.common_dir, &self.name, id)?;
        tidy(&self.common_dir, id);
        Ok(())
    }

    /// After the commit: what was moved aside goes. Whatever is not in the repository is saved,
    /// with everything around it; and so is a folder of which the repository knows no more, for
    /// what is its own in it cannot be told. The folders that were saved.
    pub fn release(&self, id: OperationId) -> Result<Vec<PathBytes>, Error> {
        let (admin, aside) = (self.admin(), self.aside(id));
        let lost = self.common_dir.join(FOLDER).join("lost").join(id.to_string());
        if presence::is_at(&aside)? {
            let precious = if is_marked(&admin, id)? {
                let unclean = worktree::unclean(&open_git_dir(&admin)?, &aside, Present::Only)?;
                unclean.iter().any(|(obstacle, _)| {
                    *obstacle != Obstacle::Ignored || (self.keep_changes && !self.discard_ignored)
                })
            } else {
                true
            };
            if precious {
                ops_core::fs::create_dir_durable(&lost)?;
                self.save_index(&lost)?;
                self.save(&aside, &lost)?;
            } else {
                ops_core::fs::remove_dir_durable(&aside)?;
            }
            fault::point("git-worktree-removed");
        }
        super::forget(&self.common_dir, &self.name, id)?;
        let saved = lost.join(&self.name);
        Ok(if presence::is_at(&saved)? { vec![PathBytes::from(&*saved)] } else { Vec::new() })
    }

    fn save(&self, aside: &std::path::Path, lost: &std::path::Path) -> Result<(), Error> {
        let to = lost.join(&self.name);
        tracing::warn!(saved = %to.display(), "a work tree with changes was saved");
        ops_core::fs::rename_noreplace(aside, &to).map_err(|error| {
            Error::new(ErrorKind::Io, format!("`{}` cannot be saved", aside.display()))
                .remedy("move it to a place of your own, then recover again")
                .caused_by(error)
        })
    }

    /// What is staged may be nowhere else.
    fn save_index(&self, lost: &std::path::Path) -> Result<(), Error> {
        let to = lost.join(format!("{}.index", self.name));
        match fs::hard_link(self.admin().join("index"), &to) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                Err(Error::io("link", &to, error))
            }
            _ => Ok(ops_core::fs::sync_dir(lost)?),
        }
    }
}
