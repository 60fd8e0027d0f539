//! The reversible steps of a repository in memory.

use ops_core::{CommitId, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::MemoryRepository;
use crate::error::{Error, ErrorKind};
use crate::export;
use crate::path_bytes::PathBytes;
use crate::tag::TagName;

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
    /// Makes a tag that does not exist.
    Tag {
        /// Its name.
        name: TagName,
        /// What it names.
        commit: CommitId,
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
            Self::Tag { .. } => "tag",
            Self::ReleaseTip => "release_tip",
            Self::Export { .. } => "export",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::MoveBranch { new, .. } => {
                Effect::changes(format!("move branch `main` to {}", new.version()))
            }
            Self::Tag { name, commit } => {
                Effect::changes(format!("tag {} as `{name}`", commit.version()))
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
            Self::Tag { name, .. } => env.state().tagged(name).into_iter().collect(),
            Self::ReleaseTip => Vec::new(),
            Self::Export { folder, .. } => export::check(&folder.to_path(), cx)?,
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
            Self::Tag { name, commit } => {
                let mut state = env.state();
                if state.made.get(name) == Some(&cx.operation()) {
                    return Ok(());
                }
                if let Some(refusal) = state.tagged(name) {
                    return Err(Error::new(ErrorKind::Moved, refusal.reason).into());
                }
                state.tags.insert(name.as_str().to_owned(), commit.clone());
                state.made.insert(name.clone(), cx.operation());
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
            Self::Tag { name, .. } => {
                let mut state = env.state();
                if state.made.get(name) == Some(&cx.operation()) {
                    state.made.remove(name);
                    state.tags.remove(name.as_str());
                }
                Ok(())
            }
            Self::ReleaseTip => Ok(()),
            Self::Export { folder, .. } => export::undo(&folder.to_path(), cx).await,
        }
    }
}
