//! Which releases stay, which go, and why.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use ops_core::Version;

/// How long a release that never was in service is left alone: somebody may be about to deploy it.
const WAITING: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One release, and when it was last of use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// When it came into service last, or, if it never did, when it was made.
    pub at: Timestamp,
    pub version: Version,
    pub served: bool,
}

/// Why a release stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    InService,
    Previous,
    Runs,
    Named,
    Recent,
    Waiting,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InService => "it is in service",
            Self::Previous => "a rollback goes to it",
            Self::Runs => "an instance of it runs",
            Self::Named => "an unfinished operation names it",
            Self::Recent => "it is one of those that were in service last",
            Self::Waiting => "it was never in service, and is younger than seven days",
        })
    }
}

/// Why a release goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Old,
    Forgotten,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "enough later ones were in service",
            Self::Forgotten => "it was never in service, and is older than seven days",
        })
    }
}

/// What becomes of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub version: Version,
    pub fate: Result<Gone, Kept>,
}

/// The versions that go, sorted.
pub(crate) fn removed(fates: Vec<Fate>) -> Vec<Version> {
    let mut old: Vec<_> =
        fates.into_iter().filter(|fate| fate.fate.is_ok()).map(|fate| fate.version).collect();
    old.sort();
    old
}

/// What stays whatever its age.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stays {
    pub comes: Option<Version>,
    pub goes: Option<Version>,
    pub others: Vec<(Version, Kept)>,
}

impl Stays {
    fn kept(&self, version: &Version) -> Option<Kept> {
        let named = |this: &Option<Version>| this.as_ref() == Some(version);
        let other = || self.others.iter().find(|(other, _)| other == version).map(|(_, why)| *why);
        if named(&self.comes) {
            Some(Kept::InService)
        } else if named(&self.goes) {
            Some(Kept::Previous)
        } else {
            other()
        }
    }

    /// Besides what stays, the `keep` that were in service last stay; and one that never was, until
    /// it has waited for long. The youngest is judged first.
    pub(crate) fn judge(&self, mut uses: Vec<Use>, keep: usize, now: Timestamp) -> Vec<Fate> {
        uses.sort_by(|a, b| b.cmp(a));
        let mut room = keep;
        let judged = uses.into_iter().map(|used| {
            let fate = match self.kept(&used.version) {
                Some(kept) => Err(kept),
                None if !used.served && now.duration_since(used.at) > WAITING => {
                    Ok(Gone::Forgotten)
                }
                None if !used.served => Err(Kept::Waiting),
                None if room > 0 => {
                    room -= 1;
                    Err(Kept::Recent)
                }
                None => Ok(Gone::Old),
            };
            Fate { version: used.version, fate }
        });
        judged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(name: &str) -> Version {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_in_service_or_was_just_used_stays() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(30 * 24);
        let day = |n: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(n * 24);
        let mut uses: Vec<_> = (1..=7)
            .map(|n| Use { at: day(n), version: v(&format!("v{n}")), served: true })
            .collect();
        uses.push(Use { at: day(22), version: v("forgotten"), served: false });
        uses.push(Use { at: day(24), version: v("waiting"), served: false });
        let stays = Stays { comes: Some(v("v7")), goes: Some(v("v2")), others: Vec::new() };
        let check = |stays: &Stays, keep, expected: &[&str]| {
            let old = removed(stays.judge(uses.clone(), keep, now));
            assert_eq!(old.iter().map(Version::as_str).collect::<Vec<_>>(), expected);
        };
        check(&stays, 3, &["forgotten", "v1", "v3"]);
        check(&stays, 0, &["forgotten", "v1", "v3", "v4", "v5", "v6"]);
        check(&stays, 9, &["forgotten"]);
        let others = vec![(v("v1"), Kept::Named), (v("forgotten"), Kept::Runs)];
        check(&Stays { others, ..stays }, 3, &["v3"]);
    }
}
