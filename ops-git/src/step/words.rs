//! What each step is called, and what it says that it does.

use ops_core::Effect;

use super::GitStep;
use crate::recovery_ref;

pub(super) fn name(step: &GitStep) -> &'static str {
    match step {
        GitStep::MoveBranch { .. } => "move_branch",
        GitStep::KeepTip { .. } => "keep_tip",
        GitStep::PointHead { .. } => "point_head",
        GitStep::VerifyBranch { .. } => "verify_branch",
        GitStep::WriteMerge { .. } => "write_merge",
        GitStep::Tag { .. } => "tag",
        GitStep::ReleaseTag { .. } => "release_tag",
        GitStep::ReleaseTip { .. } => "release_tip",
        GitStep::Export { .. } => "export",
        GitStep::InspectWorktree { .. } => "inspect_worktree",
        GitStep::SwitchWorktree { .. } => "switch_worktree",
        GitStep::VerifyWorktree { .. } => "verify_worktree",
        GitStep::AddWorktree { .. } => "add_worktree",
        GitStep::ReleaseAddedWorktree { .. } => "release_added_worktree",
        GitStep::RemoveWorktree { .. } => "remove_worktree",
        GitStep::ReleaseRemovedWorktree { .. } => "release_removed_worktree",
        GitStep::ReleaseWorktree { .. } => "release_worktree",
    }
}

pub(super) fn effect(step: &GitStep) -> Effect {
    match step {
        GitStep::MoveBranch { branch, old: Some(old), new } => Effect::changes(format!(
            "move branch `{branch}` from {} to {}",
            old.version(),
            new.version()
        )),
        GitStep::MoveBranch { branch, old: None, new } => {
            Effect::changes(format!("create branch `{branch}` at {}", new.version()))
        }
        GitStep::KeepTip { branch, commit } => Effect::changes(format!(
            "keep {} as `{}/<operation>`",
            commit.version(),
            recovery_ref::folder(branch)
        )),
        GitStep::PointHead { from, to } => {
            Effect::changes(format!("point HEAD to branch `{to}` in place of `{from}`"))
        }
        GitStep::VerifyBranch { branch, commit } => {
            Effect::reads(format!("verify that branch `{branch}` is at {}", commit.version()))
        }
        GitStep::WriteMerge { merge } => Effect::retained(format!(
            "write merge commit {} of {} and {} into the object database",
            merge.commit.version(),
            merge.ours.version(),
            merge.theirs.version()
        )),
        GitStep::Tag { tag } => {
            Effect::changes(format!("tag {} as `{}`", tag.commit.version(), tag.name))
        }
        GitStep::ReleaseTag { name } => {
            Effect::changes(format!("let go of the record of tag `{name}`"))
        }
        GitStep::ReleaseTip { branch } => {
            Effect::changes(format!("let go of the old tip of branch `{branch}`"))
        }
        GitStep::Export { commit, folder } => {
            Effect::changes(format!("export {} into the new folder `{folder}`", commit.version()))
        }
        GitStep::InspectWorktree { new, .. } => Effect::reads(format!(
            "look whether the work tree can become {}, without losing anything",
            new.version()
        )),
        GitStep::SwitchWorktree { old, new, head_to, .. } => Effect::changes(format!(
            "switch the work tree from {} to {}, HEAD on {head_to}",
            old.as_ref().map_or_else(|| "nothing".to_owned(), |old| old.version().to_string()),
            new.version()
        )),
        GitStep::VerifyWorktree { new, .. } => {
            Effect::reads(format!("verify that the work tree is at {}", new.version()))
        }
        GitStep::AddWorktree { folder, head, .. } => {
            Effect::changes(format!("make a linked work tree at `{folder}`, HEAD on {head}"))
        }
        GitStep::ReleaseAddedWorktree { name } => {
            Effect::changes(format!("let go of the lock of work tree `{name}`"))
        }
        GitStep::RemoveWorktree { folder, .. } => {
            Effect::changes(format!("move the linked work tree `{folder}` aside"))
        }
        GitStep::ReleaseRemovedWorktree { folder, discard_ignored: true, .. } => Effect::destroys(
            format!("take the linked work tree `{folder}` away, with its ignored files"),
        ),
        GitStep::ReleaseRemovedWorktree { folder, .. } => {
            Effect::changes(format!("take the linked work tree `{folder}` away"))
        }
        GitStep::ReleaseWorktree { old, .. } => Effect::changes(format!(
            "let go of the old files of {}",
            old.as_ref().map_or_else(|| "nothing".to_owned(), |old| old.version().to_string())
        )),
    }
}
