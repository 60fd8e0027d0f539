//! The swap of a target with what was restored, and the way back.
//!
//! Where things are is told by their inode numbers, which were noted before the first rename: a name
//! alone does not say on which side of the exchange it is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ops_core::fs;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::source::beside;

const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What was where before the swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    old: Option<u64>,
    new: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Swap {
    pub target: PathBuf,
    pub staged: PathBuf,
    pub old: PathBuf,
    /// Whether it is a database, to which the files beside it belong.
    pub sides: bool,
}

/// The files that SQLite keeps beside a database, as far as they are there.
pub(crate) fn sidecars(path: &Path) -> Vec<PathBuf> {
    SIDES
        .iter()
        .map(|side| beside(path, side))
        .filter(|side| side.symlink_metadata().is_ok())
        .collect()
}

fn inode(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|meta| meta.ino())
}

impl Swap {
    /// Moves the side files of one path to another.
    fn move_sides(&self, from: &Path, to: &Path) -> Result<(), Error> {
        for side in self.sides() {
            let (from, to) = (beside(from, side), beside(to, side));
            if from.symlink_metadata().is_ok() {
                fs::rename_noreplace(&from, &to)?;
                ops_core::fault::point("moved a side file");
            }
        }
        Ok(())
    }

    fn sides(&self) -> &'static [&'static str] {
        if self.sides { &SIDES } else { &[] }
    }

    /// Whoever was killed between a rename and its durability owes it still. All three paths lie in
    /// one folder.
    fn settle(&self) -> Result<(), Error> {
        Ok(fs::sync_dir(self.target.parent().unwrap_or(Path::new("/")))?)
    }

    pub fn look(&self) -> Result<Before, Error> {
        let new = inode(&self.staged).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("`{}` is missing", self.staged.display()))
        })?;
        Ok(Before { old: inode(&self.target), new })
    }

    pub fn forward(&self, before: &Before, replaces: bool) -> Result<(), Error> {
        if before.old.is_some() != replaces {
            let message =
                format!("`{}` appeared or vanished since the plan", self.target.display());
            return Err(
                Error::new(ErrorKind::InvalidInput, message).remedy("plan the restore again")
            );
        }
        if !replaces {
            if inode(&self.target) != Some(before.new) {
                fs::rename_noreplace(&self.staged, &self.target)?;
            }
            ops_core::fault::point("put in place");
            return self.settle();
        }
        if inode(&self.target) == before.old {
            // The old side files go first: applied to the new database, they would destroy it.
            self.move_sides(&self.target, &self.old)?;
            fs::exchange(&self.target, &self.staged)?;
            ops_core::fault::point("exchanged");
        }
        if inode(&self.staged) == before.old {
            fs::rename_noreplace(&self.staged, &self.old)?;
            ops_core::fault::point("old has its name");
        }
        self.settle()
    }

    /// Puts the old back, and what was restored to where it was staged.
    pub fn back(&self, before: &Before) -> Result<(), Error> {
        let Some(old) = before.old else {
            if inode(&self.target) == Some(before.new) {
                self.drop_sides_of_new()?;
                fs::rename_noreplace(&self.target, &self.staged)?;
            }
            return self.settle();
        };
        if inode(&self.old) == Some(old) {
            fs::rename_noreplace(&self.old, &self.staged)?;
            ops_core::fault::point("old is staged again");
        }
        if inode(&self.target) == Some(before.new) && inode(&self.staged) == Some(old) {
            self.drop_sides_of_new()?;
            fs::exchange(&self.target, &self.staged)?;
            ops_core::fault::point("exchanged back");
        }
        if inode(&self.target) != Some(old) {
            return Err(self.lost("the old content of"));
        }
        for side in self.sides() {
            let kept = beside(&self.old, side);
            if kept.symlink_metadata().is_ok() {
                fs::rename_durable(&kept, &beside(&self.target, side))?;
                ops_core::fault::point("side file is back");
            }
        }
        self.settle()
    }

    /// Puts what a restore kept back in its place, with its side files. What was restored is kept in
    /// its stead, as [`old`](Self::old); `staged` is where the kept one lies.
    pub fn back_in_place(&self, before: &Before) -> Result<(), Error> {
        if inode(&self.target) == before.old {
            self.move_sides(&self.target, &self.old)?;
            fs::exchange(&self.target, &self.staged)?;
            ops_core::fault::point("exchanged with the kept");
        }
        if inode(&self.target) != Some(before.new) {
            return Err(self.lost("the kept content of"));
        }
        if inode(&self.staged) == before.old {
            // First those that belong to what is in place now: they go by the name of `staged`.
            self.move_sides(&self.staged, &self.target)?;
            fs::rename_noreplace(&self.staged, &self.old)?;
            ops_core::fault::point("the restored has its name");
        }
        self.settle()
    }

    /// The way back from [`back_in_place`](Self::back_in_place).
    pub fn kept_again(&self, before: &Before) -> Result<(), Error> {
        if before.old.is_some() && inode(&self.old) == before.old {
            fs::rename_noreplace(&self.old, &self.staged)?;
            ops_core::fault::point("the restored is staged again");
        }
        if inode(&self.target) == Some(before.new) && inode(&self.staged) == before.old {
            self.move_sides(&self.target, &self.staged)?;
            fs::exchange(&self.target, &self.staged)?;
            ops_core::fault::point("kept again");
        }
        if inode(&self.target) != before.old {
            return Err(self.lost("the restored content of"));
        }
        self.move_sides(&self.old, &self.target)?;
        self.settle()
    }

    fn lost(&self, what: &str) -> Error {
        let Self { target, staged, old, .. } = self;
        Error::new(ErrorKind::NotFound, format!("{what} `{}` cannot be found", target.display()))
            .remedy(format!(
                "somebody moved it meanwhile; look for `{}` and `{}`",
                old.display(),
                staged.display()
            ))
    }

    /// Side files that appeared beside the new database belong to it, and must not meet the old.
    fn drop_sides_of_new(&self) -> Result<(), Error> {
        if self.sides {
            for side in sidecars(&self.target) {
                fs::remove_file_durable(&side)?;
            }
        }
        Ok(())
    }
}
