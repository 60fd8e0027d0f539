//! What only the whole index can tell: conflicts, clashes of files and folders, letter case.

use std::collections::BTreeSet;

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::entry::Stage;

use super::folders::slashed;
use super::{Planner, Transitions, View};
use crate::worktree::names;
use crate::worktree::obstacle::Obstacle;
use crate::worktree::root::above;

impl<V: View> Planner<'_, V> {
    pub(super) fn unmerged(&mut self) {
        for entry in self.index.entries() {
            if entry.stage() != Stage::Unconflicted {
                self.refuse(entry.path(self.index), Obstacle::Unmerged);
            }
        }
    }

    /// Paths that the index keeps and the new tree does not know must fit among the new ones.
    pub(super) fn kept_in_the_way(&mut self) {
        let kept = |path: &BStr, plan: &Transitions| match plan.index.get(path) {
            Some(cell) => cell.is_some(),
            None => self.index.entry_by_path_and_stage(path, Stage::Unconflicted).is_some(),
        };
        let mut clash = BTreeSet::new();
        for (path, cell) in &self.plan.index {
            if cell.is_none() {
                continue;
            }
            clash.extend(
                above(path.as_bstr()).filter(|f| kept(f, &self.plan)).map(ToOwned::to_owned),
            );
            for entry in
                self.index.prefixed_entries(slashed(path.as_bstr()).as_bstr()).into_iter().flatten()
            {
                let below = entry.path(self.index);
                if kept(below, &self.plan) {
                    clash.insert(below.to_owned());
                }
            }
        }
        for path in clash {
            self.refuse(path.as_bstr(), Obstacle::StagedInTheWay);
        }
    }

    pub(super) fn cases(&mut self) {
        if !self.policy.ignore_case {
            return;
        }
        let mut all: BTreeSet<&BStr> =
            self.index.entries().iter().map(|entry| entry.path(self.index)).collect();
        // What goes is still there when its namesake comes.
        let new = self.plan.index.iter().filter(|(_, cell)| cell.is_some());
        all.extend(new.map(|(path, _)| path.as_bstr()));
        let coming = |path: &BString| {
            let below = slashed(path.as_bstr());
            self.plan
                .index
                .iter()
                .any(|(new, cell)| cell.is_some() && (new == path || new.starts_with(&below)))
        };
        let found: Vec<_> = names::collisions(all.into_iter())
            .into_iter()
            .filter(|(one, other)| coming(one) || coming(other))
            .collect();
        for (one, other) in found {
            let with = one.to_str_lossy().into_owned();
            self.refuse(other.as_bstr(), Obstacle::CaseCollision { with });
        }
    }
}
