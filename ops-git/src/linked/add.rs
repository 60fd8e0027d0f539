//! Making a linked work tree: what the repository knows of it, and its folder. Its files come after
//! that.

use std::fs;
use std::path::{Path, PathBuf};

use ops_core::{CommitId, OperationId, Refusal, fault};

use super::{admin, is_marked, mark, own_folder, tidy, write_new};
use crate::checked_out::anywhere;
use crate::error::{Error, ErrorKind};
use crate::id::object_id;
use crate::path_bytes::PathBytes;
use crate::presence;
use crate::refs::{self, shown};
use crate::worktree::HeadPosition;

/// A linked work tree that is to be.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub common_dir: PathBuf,
    pub folder: PathBuf,
    pub name: String,
    pub head: HeadPosition,
    pub commit: CommitId,
}

/// The folders that have to be made for a path, the outermost first.
pub(crate) fn levels(folder: &Path) -> Result<Vec<PathBytes>, Error> {
    let mut levels = Vec::new();
    for level in folder.ancestors() {
        if presence::is_at(level)? {
            break;
        }
        levels.push(PathBytes::from(level));
    }
    levels.reverse();
    Ok(levels)
}

impl Added {
    fn admin(&self) -> PathBuf {
        admin(&self.common_dir, &self.name)
    }

    /// Where it is built, until it is put into place whole.
    fn draft(&self, id: OperationId) -> PathBuf {
        own_folder(&self.common_dir, id).join(format!("new-{}", self.name))
    }

    /// What the work tree's `.git` says.
    fn link(&self) -> Vec<u8> {
        let mut text = b"gitdir: ".to_vec();
        text.extend_from_slice(PathBytes::from(&*self.admin()).as_bytes());
        text.push(b'\n');
        text
    }

    /// Whether its folder has the `.git` of this very work tree.
    fn is_linked(&self) -> Result<bool, Error> {
        Ok(presence::read(&self.folder.join(".git"))?.is_some_and(|text| text == self.link()))
    }

    /// Why it cannot be added.
    pub fn check(&self, repo: &gix::Repository) -> Result<Vec<Refusal>, Error> {
        let mut reasons = Vec::new();
        if let HeadPosition::Branch { branch } = &self.head {
            let (tip, expected) = (refs::tip(repo, &branch.full())?, object_id(&self.commit)?);
            if tip != Some(expected) {
                reasons.push(Refusal::new(
                    format!("branch `{branch}` is at {}, the plan expects {expected}", shown(tip)),
                    "somebody moved it since: plan afresh",
                ));
            }
            reasons.extend(anywhere(repo, branch)?.into_iter().map(Refusal::from));
        }
        if presence::is_at(&self.admin())? {
            let what = format!("work tree `{}` exists already", self.name);
            reasons.push(Refusal::new(what, "plan afresh"));
        }
        reasons.extend(occupied(&self.folder)?);
        Ok(reasons)
    }

    pub fn run(&self, repo: &gix::Repository, id: OperationId) -> Result<(), Error> {
        let admin = self.admin();
        if !is_marked(&admin, id)? {
            let reasons = self.check(repo)?;
            if !reasons.is_empty() {
                return Err(Error::refused("the work tree cannot be added", reasons));
            }
            self.register(id)?;
        }
        ops_core::fs::create_dir_durable(&self.folder)?;
        fault::point("git-worktree-folder-made");
        let link = self.folder.join(".git");
        if !self.is_linked()? {
            // Built where only we write, so that nothing half written lies in the folder.
            let built = admin.join("ops-git-link");
            ops_core::fs::remove_file_durable(&built)?;
            write_new(&built, &self.link())?;
            ops_core::fs::rename_noreplace(&built, &link)?;
        }
        fault::point("git-worktree-linked");
        Ok(())
    }

    fn register(&self, id: OperationId) -> Result<(), Error> {
        let (admin, draft) = (self.admin(), self.draft(id));
        ops_core::fs::remove_dir_durable(&draft)?;
        ops_core::fs::create_dir_durable(&draft)?;
        let mut place = PathBytes::from(&*self.folder.join(".git")).as_bytes().to_vec();
        place.push(b'\n');
        for (name, content) in [
            ("HEAD", self.head.line().into_bytes()),
            ("commondir", b"../..\n".to_vec()),
            ("gitdir", place),
            ("locked", mark(id).into_bytes()),
        ] {
            write_new(&draft.join(name), &content)?;
        }
        ops_core::fs::sync_dir(&draft)?;
        fault::point("git-worktree-drafted");
        ops_core::fs::create_dir_durable(&self.common_dir.join("worktrees"))?;
        ops_core::fs::rename_noreplace(&draft, &admin)?;
        fault::point("git-worktree-registered");
        tidy(&self.common_dir, id);
        Ok(())
    }

    /// Takes it away again, after whatever became of that. `made` are the folders that were not
    /// there before. What somebody else put into them stays there.
    pub fn undo(&self, made: &[PathBytes], id: OperationId) -> Result<(), Error> {
        ops_core::fs::remove_dir_durable(&self.draft(id))?;
        if is_marked(&self.admin(), id)? {
            if self.is_linked()? {
                ops_core::fs::remove_file_durable(&self.folder.join(".git"))?;
            }
            fault::point("git-worktree-unlinked");
            for level in made.iter().rev() {
                let level = level.to_path();
                match fs::remove_dir(&level) {
                    Ok(()) => ops_core::fs::sync_dir(level.parent().unwrap_or(&level))?,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                        tracing::warn!(folder = %level.display(), "it is not empty, and stays");
                        break;
                    }
                    Err(error) => return Err(Error::io("remove the folder", &level, error)),
                }
            }
            fault::point("git-worktree-unmade");
        }
        super::forget(&self.common_dir, &self.name, id)
    }

    /// Checks that it is there, and that git finds it.
    pub fn verify(&self) -> Result<(), Error> {
        if self.is_linked()? && presence::is_at(&self.admin().join("HEAD"))? {
            return Ok(());
        }
        let what = format!("work tree `{}` is not there", self.folder.display());
        Err(Error::new(ErrorKind::Moved, what).remedy("find out who took it away, then try again"))
    }
}

/// Why nothing can be put into a folder; an empty one is free.
pub(super) fn occupied(folder: &Path) -> Result<Option<Refusal>, Error> {
    let Some(found) = presence::at(folder)? else { return Ok(None) };
    let is_empty =
        found.is_dir() && folder.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    Ok((!is_empty).then(|| {
        Refusal::new(
            format!("`{}` is there already", folder.display()),
            "give a folder that does not exist or is empty",
        )
    }))
}
