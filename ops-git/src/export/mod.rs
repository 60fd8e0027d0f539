//! Writing the tree of a version into a new folder.

mod ident;
mod list;
mod place;
mod utf16;
mod write;

use std::path::{Path, PathBuf};

use ops_core::{CommitId, Context, Plan, Report, StepContext, StepError};

pub(crate) use list::Entry;
pub(crate) use place::{check, foreign, in_place, undo};
pub(crate) use write::Rules;

use crate::blocker::Blocker;
use crate::error::{Error, ErrorKind};
use crate::id::{commit_id, object_id};
use crate::path_bytes::PathBytes;
use crate::repository::GitRepository;
use crate::step::GitStep;
use crate::versions::{resolve, version_of};

impl GitRepository {
    /// Plans to write the tree of a version into a new folder, from a bare mirror too.
    ///
    /// The folder holds what `git archive` would put there: filters and attributes applied
    /// (`text`, `eol`, `ident`, `working-tree-encoding`, filter drivers, `export-ignore`), with
    /// executable bits and symbolic links. `export-subst` is not applied.
    /// It appears at once and whole, or not at all.
    ///
    /// If the folder is there already and holds exactly this, the plan is empty.
    ///
    /// Facts of the plan: `commit`, `folder`, `files`.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve); [`ErrorKind::Foreign`] if something else is at the
    /// folder's place; [`ErrorKind::Hostile`] with every path of the tree that must not be written
    /// to a disk, and with every submodule, since those lie in other repositories.
    pub async fn plan_export(
        &self,
        version: &str,
        folder: impl AsRef<Path>,
    ) -> Result<Plan, Error> {
        let version = version.to_owned();
        let folder = absolute(folder.as_ref())?;
        let this = self.clone();
        self.blocking(move |repo| {
            trusted(repo)?;
            let id = resolve(repo, &version)?;
            let listing = list::list(repo, id)?;
            let plan = Plan::new("export")
                .version(version_of(repo, id)?)
                .fact("commit", id)
                .fact("folder", folder.display())
                .fact("files", listing.entries.len());
            if folder.symlink_metadata().is_err() {
                let step =
                    GitStep::Export { commit: commit_id(id), folder: PathBytes::from(&*folder) };
                return Ok(plan.change(&this, &step)?);
            }
            match write::first_difference(repo, &listing, &folder)? {
                None => Ok(plan.fact("result", "already exported")),
                Some(difference) => Err(foreign(&folder, Some(&difference))),
            }
        })
        .await
    }

    /// Writes the tree of a version into a new folder: [`plan_export`](Self::plan_export), approved
    /// and run.
    ///
    /// # Errors
    /// Those of [`plan_export`](Self::plan_export) and [`execute`](Self::execute).
    pub async fn export(
        &self,
        cx: &Context,
        version: &str,
        folder: impl AsRef<Path>,
    ) -> Result<Report, Error> {
        self.execute(self.plan_export(version, folder).await?, cx).await
    }
}

/// In a repository of another user gix skips the filters without a word, and the export would
/// hold other bytes than it should.
fn trusted(repo: &gix::Repository) -> Result<(), Error> {
    if repo.git_dir_trust() == gix::sec::Trust::Full {
        return Ok(());
    }
    let blocker = Blocker::UntrustedOwner { path: repo.git_dir().to_owned() };
    Err(Error::refused("nothing can be exported from here", vec![blocker.into()]))
}

pub(crate) fn absolute(folder: &Path) -> Result<PathBuf, Error> {
    let folder = std::path::absolute(folder).map_err(|source| Error::io("find", folder, source))?;
    if folder.file_name().is_none() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("`{}` cannot be a new folder", folder.display()),
        )
        .remedy("give the path of a folder that does not exist yet"));
    }
    Ok(folder)
}

pub(crate) async fn run(
    env: &GitRepository,
    commit: CommitId,
    folder: &Path,
    cx: &StepContext,
) -> Result<(), StepError> {
    let env = env.clone();
    in_place(folder, cx, move |temporary, cx| {
        let repo = env.handle()?;
        trusted(&repo)?;
        let id = object_id(&commit)?;
        let listing = list::list(&repo, id)?;
        write::write(&repo, &listing, temporary, cx).map_err(|error| error.with("commit", &commit))
    })
    .await
}
