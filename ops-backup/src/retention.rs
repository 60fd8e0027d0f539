//! Which backups to keep: a pure function, so that a dry run is the same as the real one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::manifest::BackupId;

/// How many backups of a set are kept. The rules add up: what one of them keeps, stays.
///
/// Days, ISO weeks, months and years are those of UTC, and only those count in which there is a
/// backup: `daily(7)` keeps the newest backup of each of the last seven days that have one, so a
/// set that is not backed up any more does not melt away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Policy {
    /// How many of the newest. Default: 0.
    pub last: usize,
    /// Of how many days the newest. Default: 0.
    pub daily: usize,
    /// Of how many weeks, from Monday, the newest. Default: 0.
    pub weekly: usize,
    /// Of how many months the newest. Default: 0.
    pub monthly: usize,
    /// Of how many years the newest. Default: 0.
    pub yearly: usize,
}

impl Policy {
    /// Keeps nothing yet; it needs a rule before it can be used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the newest `n` backups.
    pub fn last(mut self, n: usize) -> Self {
        self.last = n;
        self
    }

    /// Keeps the newest backup of each of the last `n` days.
    pub fn daily(mut self, n: usize) -> Self {
        self.daily = n;
        self
    }

    /// Keeps the newest backup of each of the last `n` weeks.
    pub fn weekly(mut self, n: usize) -> Self {
        self.weekly = n;
        self
    }

    /// Keeps the newest backup of each of the last `n` months.
    pub fn monthly(mut self, n: usize) -> Self {
        self.monthly = n;
        self
    }

    /// Keeps the newest backup of each of the last `n` years.
    pub fn yearly(mut self, n: usize) -> Self {
        self.yearly = n;
        self
    }

    /// Whether it has no rule, and would keep next to nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn rules(self) -> [Rule; 5] {
        let rule = |name, count, period| Rule { name, left: count, seen: None, period };
        [
            rule("newest", self.last, |id, _| id.to_string()),
            rule("daily", self.daily, |_, day| day.to_string()),
            rule("weekly", self.weekly, |_, day| {
                let week = day.iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }),
            rule("monthly", self.monthly, |_, day| format!("{}-{:02}", day.year(), day.month())),
            rule("yearly", self.yearly, |_, day| day.year().to_string()),
        ]
    }
}

/// A rule on its way from the newest backup to the oldest.
struct Rule {
    name: &'static str,
    left: usize,
    seen: Option<String>,
    period: fn(BackupId, Date) -> String,
}

impl Rule {
    /// Why the backup is kept, if it is the newest of a period that counts.
    fn keeps(&mut self, id: BackupId, day: Date) -> Option<String> {
        let period = (self.period)(id, day);
        if self.left == 0 || self.seen.as_ref() == Some(&period) {
            return None;
        }
        self.left -= 1;
        let reason = match self.name {
            "newest" => "one of the newest".to_owned(),
            name => format!("{name} {period}"),
        };
        self.seen = Some(period);
        Some(reason)
    }
}

/// A listed backup, as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The backup; its id says how old it is.
    pub id: BackupId,
    /// Whether the last full verification or drill found it whole.
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

/// Judges each backup, newest first.
///
/// Whatever the policy says, the newest backup stays, and so does the newest verified one. One
/// that was made after `now` stays too, and takes no other's place: one of the clocks is wrong.
pub fn plan(backups: &[Candidate], policy: Policy, now: Timestamp) -> Vec<Verdict> {
    let ordered: BTreeSet<_> = backups.iter().map(|backup| backup.id).collect();
    let newest = ordered.last().copied();
    let proven = backups.iter().filter(|b| b.verified).map(|b| b.id).max();
    let mut rules = policy.rules();
    let judge = |id: BackupId| {
        let moment = id.moment();
        let mut reasons = Vec::new();
        if moment > now {
            reasons.push("made after this machine's now".to_owned());
        } else {
            let day = moment.to_zoned(TimeZone::UTC).date();
            reasons.extend(rules.iter_mut().filter_map(|rule| rule.keeps(id, day)));
        }
        if reasons.is_empty() && newest == Some(id) {
            reasons.push("the newest".to_owned());
        }
        if proven == Some(id) {
            reasons.push("the newest that is verified".to_owned());
        }
        let keep = !reasons.is_empty();
        let reason = if keep { reasons.join(", ") } else { "no rule keeps it".to_owned() };
        Verdict { id, keep, reason }
    };
    ordered.into_iter().rev().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(moment: &str) -> BackupId {
        let moment: Timestamp = moment.parse().unwrap();
        from_millisecond(moment.as_millisecond().try_into().unwrap())
    }

    fn from_millisecond(moment: u64) -> BackupId {
        ulid::Ulid::from_parts(moment, 7).to_string().parse().unwrap()
    }

    fn kept(policy: Policy, moments: &[&'static str]) -> Vec<&'static str> {
        let candidate = |moment: &&str| Candidate { id: id(moment), verified: false };
        let backups: Vec<_> = moments.iter().map(candidate).collect();
        let verdicts = plan(&backups, policy, "2026-11-21T12:00:00Z".parse().unwrap());
        let keeps = |m: &&&str| verdicts.iter().any(|v| v.id == id(m) && v.keep);
        moments.iter().filter(keeps).copied().collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        // The 16th is a Monday, the 15th a Sunday.
        let all = [
            "2024-02-29T03:00:00Z",
            "2025-12-31T23:59:59Z",
            "2026-10-31T03:00:00Z",
            "2026-11-01T03:00:00Z",
            "2026-11-15T03:00:00Z",
            "2026-11-16T03:00:00Z",
            "2026-11-20T03:00:00Z",
            "2026-11-20T23:00:00Z",
            "2026-11-21T03:00:00Z",
        ];
        let new = Policy::new();
        for (policy, expected) in [
            (new.last(2), vec![7, 8]),
            (new.daily(3), vec![5, 7, 8]),
            (new.weekly(2), vec![4, 8]),
            (new.monthly(3), vec![1, 2, 8]),
            (new.yearly(9), vec![0, 1, 8]),
            (new.last(1).yearly(2), vec![1, 8]),
            (new.last(99), (0..9).collect()),
            (new, vec![8]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|at: usize| all[at]).collect();
            assert_eq!(kept(policy, &all), expected, "{policy:?}");
        }
        assert_eq!(
            kept(new.last(1), &["2026-11-20T03:00:00Z", "2027-01-01T00:00:00Z"]),
            ["2026-11-20T03:00:00Z", "2027-01-01T00:00:00Z"],
            "what comes from the future stays and takes no place"
        );
    }

    /// Slow, and obvious: how many of these periods that have a backup are not before a backup's own, and
    /// whether it is the newest of its own.
    fn counts(
        past: &[BackupId],
        id: BackupId,
        count: usize,
        period: impl Fn(BackupId) -> i64,
    ) -> bool {
        let later = past.iter().map(|other| period(*other)).filter(|it| *it >= period(id));
        let periods: BTreeSet<_> = later.collect();
        let newest = past.iter().filter(|other| period(**other) == period(id)).max();
        newest == Some(&id) && periods.len() <= count
    }

    /// Which backups stay, told from what each rule promises.
    fn model(backups: &[Candidate], policy: Policy, now: Timestamp) -> BTreeSet<BackupId> {
        let days = |id: BackupId| id.moment().as_millisecond().div_euclid(86_400_000);
        let date = |id: BackupId| id.moment().to_zoned(TimeZone::UTC).date();
        let year = |id: BackupId| i64::from(date(id).year());
        let past: Vec<_> = backups.iter().map(|b| b.id).filter(|id| id.moment() <= now).collect();
        let stays = |b: &&Candidate| {
            let id = b.id;
            id.moment() > now
                || backups.iter().all(|other| other.id <= id)
                || b.verified && backups.iter().all(|other| !other.verified || other.id <= id)
                || counts(&past, id, policy.last, |id| id.moment().as_millisecond())
                || counts(&past, id, policy.daily, days)
                // The first of January 1970 was a Thursday.
                || counts(&past, id, policy.weekly, |id| (days(id) + 3).div_euclid(7))
                || counts(&past, id, policy.monthly, |id| 12 * year(id) + i64::from(date(id).month()))
                || counts(&past, id, policy.yearly, year)
        };
        backups.iter().filter(stays).map(|b| b.id).collect()
    }

    proptest! {
        #[test]
        fn what_stays_is_what_each_rule_promises(
            set in prop::collection::btree_map(0_u64..100_000_000_000, any::<bool>(), 0..60),
            near in prop::collection::btree_map(0_u64..2_000_000_000, any::<bool>(), 0..30),
            counts in prop::array::uniform5(0_usize..9),
            now in 0_i64..110_000_000_000,
        ) {
            // Some far from each other, some of the same days.
            let backups = set.into_iter().chain(near).collect::<BTreeMap<_, _>>().into_iter();
            let candidate = |(moment, verified)| Candidate { id: from_millisecond(moment), verified };
            let backups: Vec<_> = backups.map(candidate).collect();
            let [last, daily, weekly, monthly, yearly] = counts;
            let policy = Policy { last, daily, weekly, monthly, yearly };
            let now = Timestamp::from_millisecond(now).unwrap();
            let kept = plan(&backups, policy, now).into_iter().filter(|verdict| verdict.keep);
            let kept: BTreeSet<_> = kept.map(|verdict| verdict.id).collect();
            prop_assert_eq!(kept, model(&backups, policy, now));
        }

        #[test]
        fn the_newest_and_a_verified_one_always_stay(
            set in prop::collection::btree_map(0_u64..100_000_000_000, any::<bool>(), 0..40),
            counts in prop::array::uniform5(0_usize..6),
            now in 0_i64..100_000_000_000,
        ) {
            let candidate = |(moment, verified): (&u64, &bool)| {
                Candidate { id: from_millisecond(*moment), verified: *verified }
            };
            let backups: Vec<_> = set.iter().map(candidate).collect();
            let [last, daily, weekly, monthly, yearly] = counts;
            let policy = Policy { last, daily, weekly, monthly, yearly };
            let now = Timestamp::from_millisecond(now).unwrap();
            let verdicts = plan(&backups, policy, now);
            prop_assert_eq!(verdicts.len(), backups.len());
            prop_assert!(verdicts.is_sorted_by(|a, b| a.id > b.id));
            let kept: Vec<_> = verdicts.iter().filter(|v| v.keep).map(|v| v.id).collect();
            let (past, future): (Vec<_>, Vec<_>) = backups.iter().partition(|b| b.id.moment() <= now);
            for one in past.iter().rev().take(last).chain(&future).chain(&backups.last()) {
                prop_assert!(kept.contains(&one.id));
            }
            if let Some(proven) = backups.iter().rfind(|b| b.verified) {
                prop_assert!(kept.contains(&proven.id));
            }
            prop_assert!(kept.len() <= counts.iter().sum::<usize>() + future.len() + 2);
        }
    }
}
