//! Merging two histories: in memory first, then as a plan.

mod bases;
mod commit;
mod commits;
mod conflict;
mod content;
mod drivers;
mod external;
mod place;
mod plan;
mod renames;
mod similarity;
mod text;
mod trees;
mod triples;

pub use commit::MergeCommit;
pub use commits::{MergePreview, MergeResult};
pub use conflict::{Caution, Conflict, ConflictKind, Stage};
pub use plan::{FastForward, MergeOptions};

pub(crate) use commit::{in_memory, write};
pub(crate) use place::{Landing, place};
pub(crate) use plan::{Merging, merging, target};

use crate::error::Error;
use crate::repository::GitRepository;
use crate::versions::resolve;

impl GitRepository {
    /// Merges one commit into another in memory, and says what it comes to: nothing is written and
    /// nothing moves. All conflicts are found at once.
    ///
    /// The answer is that of git's own merge (`git merge-tree --write-tree`), with histogram diff,
    /// renames, and the merge drivers `text`, `binary` and `union` of our side's attributes. Where
    /// what git would do is too close to call, it is refused as a [`Caution`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for names that mean no commit, and if
    /// the history cannot be read.
    pub async fn preview_merge(&self, ours: &str, theirs: &str) -> Result<MergePreview, Error> {
        let (ours, theirs) = (ours.to_owned(), theirs.to_owned());
        self.blocking(move |repo| {
            let (ours, theirs) = (resolve(repo, &ours)?, resolve(repo, &theirs)?);
            Ok(commits::merge(repo, ours, theirs, &[])?.preview)
        })
        .await
    }
}
