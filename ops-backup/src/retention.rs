//! Which backups to keep: a pure function, so that a dry run is the same as the real one.

use std::num::NonZeroUsize;

use crate::manifest::BackupId;

/// How many backups of a set are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The newest ones. At least one, so that a policy never empties a set.
    pub keep_last: NonZeroUsize,
}

impl Policy {
    /// Keeps the newest `n` backups.
    pub fn keep_last(n: NonZeroUsize) -> Self {
        Self { keep_last: n }
    }
}

/// A listed backup, as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The backup; its id says how old it is.
    pub id: BackupId,
    /// Whether a full verification found it whole.
    pub verified: bool,
}

/// What happens to a backup, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The backup.
    pub id: BackupId,
    /// Whether it is kept.
    pub keep: bool,
    /// Why, for the dry run.
    pub reason: String,
}

/// Judges each backup, newest first. The newest verified one is kept whatever the policy says.
pub fn plan(backups: &[Candidate], policy: Policy) -> Vec<Verdict> {
    let mut newest_first = backups.to_vec();
    newest_first.sort_by_key(|backup| std::cmp::Reverse(backup.id));
    newest_first.dedup_by_key(|backup| backup.id);
    let proven = newest_first.iter().find(|backup| backup.verified).map(|backup| backup.id);
    let last = policy.keep_last.get();
    let judge = |(at, backup): (usize, &Candidate)| {
        let (keep, reason) = if at < last {
            (true, format!("number {} of the newest {last}", at + 1))
        } else if proven == Some(backup.id) {
            (true, "the newest that is verified".to_owned())
        } else {
            (false, format!("older than the newest {last}"))
        };
        Verdict { id: backup.id, keep, reason }
    };
    newest_first.iter().enumerate().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_and_a_verified_one_always_stay(
            set in prop::collection::btree_map(0_u64..1_000_000, any::<bool>(), 0..40),
            last in 1_usize..10,
        ) {
            let id = |moment| ulid::Ulid::from_parts(moment, 7).to_string().parse().unwrap();
            let backups: Vec<_> = set
                .iter()
                .map(|(moment, verified)| Candidate { id: id(*moment), verified: *verified })
                .collect();
            let verdicts = plan(&backups, Policy::keep_last(last.try_into().unwrap()));
            prop_assert_eq!(verdicts.len(), backups.len());
            let kept: Vec<_> = verdicts.iter().filter(|v| v.keep).map(|v| v.id).collect();
            for newest in backups.iter().rev().take(last) {
                prop_assert!(kept.contains(&newest.id));
            }
            let verified = |b: &&Candidate| b.verified;
            if let Some(proven) = backups.iter().rfind(verified) {
                prop_assert!(kept.contains(&proven.id));
            }
            prop_assert!(kept.len() <= last + 1);
        }
    }
}
