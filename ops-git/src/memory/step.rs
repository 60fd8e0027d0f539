//! The reversible steps of a repository in memory.

use ops_core::{CommitId, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::MemoryRepository;
use crate::error::{Error, ErrorKind};
use crate::export;
use crate::path_bytes::PathBytes;

/// One reversible step on a [`MemoryRepository`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MemoryStep {
    /// Moves `main`.
    MoveBranch {
        /// Where it is; `None` before the first pull.
        old: Option<CommitId>,
        /// Where it goes.
        new: CommitId,
    },
    /// Lets go of where the operation left `main`.
    ReleaseTip,
    /// Writes the files of a commit into a new folder.
    Export {
        /// The commit.
        commit: CommitId,
        /// The folder, absolute; it must not exist.
        folder: PathBytes,
    },
}

fn moved(now: Option<&CommitId>, expected: Option<&CommitId>) -> Error {
    let shown = |id: Option<&CommitId>| {
        id.map_or_else(|| "no commit".to_owned(), |id| id.as_str().to_owned())
    };
    Error::new(
        ErrorKind::Moved,
        format!("branch `main` is at {}, not at {}", shown(now), shown(expected)),
    )
    .remedy("plan afresh")
}

impl Step for MemoryStep {
    const FAMILY: &'static str = "git-memory";
    type Env = MemoryRepository;

    fn name(&self) -> &'static str {
        match self {
            Self::MoveBranch { .. } => "move_branch",
            Self::ReleaseTip => "release_tip",
            Self::Export { .. } => "export",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::MoveBranch { new, .. } => {
                Effect::changes(format!("move branch `main` to {}", new.version()))
            }
            Self::ReleaseTip => Effect::changes("let go of the old tip of branch `main`"),
            Self::Export { commit, folder } => Effect::changes(format!(
                "export {} into the new folder `{folder}`",
                commit.version()
            )),
        }
    }

    async fn check(
        &self,
        env: &MemoryRepository,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        Ok(match self {
            Self::MoveBranch { old, .. } => {
                let now = env.state().local.clone();
                let reason = moved(now.as_ref(), old.as_ref()).to_string();
                if now == *old { Vec::new() } else { vec![Refusal::new(reason, "plan afresh")] }
            }
            Self::ReleaseTip => Vec::new(),
            Self::Export { folder, .. } => export::check(&folder.to_path(), cx),
        })
    }

    async fn run(&self, env: &MemoryRepository, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::MoveBranch { old, new } => {
                let mut state = env.state();
                if state.local.as_ref() == Some(new) {
                    return Ok(());
                }
                if state.local != *old {
                    return Err(moved(state.local.as_ref(), old.as_ref()).into());
                }
                state.kept.insert(cx.operation(), old.clone());
                state.local = Some(new.clone());
                Ok(())
            }
            Self::ReleaseTip => {
                env.state().kept.remove(&cx.operation());
                Ok(())
            }
            Self::Export { commit, folder } => {
                let (_, commit) = env.state().find(commit.as_str())?;
                export::in_place(&folder.to_path(), cx, move |root, _| commit.write(root)).await
            }
        }
    }

    async fn undo(&self, env: &MemoryRepository, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::MoveBranch { old, new } => {
                let mut state = env.state();
                if state.kept.contains_key(&cx.operation()) {
                    if state.local.as_ref() == Some(new) {
                        state.local.clone_from(old);
                    } else if state.local != *old {
                        return Err(moved(state.local.as_ref(), Some(new)).into());
                    }
                    state.kept.remove(&cx.operation());
                }
                Ok(())
            }
            Self::ReleaseTip => Ok(()),
            Self::Export { folder, .. } => export::undo(&folder.to_path(), cx).await,
        }
    }
}
