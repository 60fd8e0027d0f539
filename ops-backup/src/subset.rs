//! Which objects are read today, so that all are read within a month.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

const DAY: i64 = 24 * 60 * 60;

/// A part of the objects of a store, by the date: as many days or weeks later as there are parts,
/// each object was in one of them.
///
/// It depends on nothing but the date and an object's name, so that nobody has to remember what was
/// read before. An object that was added meanwhile, or is shared by several backups, is in the part
/// in which it always is.
///
/// ```
/// use ops_backup::Subset;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = "2026-11-21T03:00:00Z".parse()?;
/// assert_eq!(Subset::of_day(now), Subset::of_day("2026-12-19T03:00:00Z".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subset {
    part: u16,
    of: u16,
}

impl Subset {
    /// For a verification each day: a twenty-eighth of the objects, and all of them within any 28
    /// days that follow each other, so within any month. Days are those of UTC.
    pub fn of_day(now: Timestamp) -> Self {
        Self::of(now, DAY, 28)
    }

    /// For a verification each week: a quarter of the objects, and all of them within any four weeks
    /// that follow each other, so within any month. Weeks begin on Monday, in UTC.
    pub fn of_week(now: Timestamp) -> Self {
        // The first day of the epoch was a Thursday.
        let monday = Timestamp::from_second(now.as_second().saturating_add(3 * DAY));
        Self::of(monday.unwrap_or(now), 7 * DAY, 4)
    }

    fn of(now: Timestamp, period: i64, of: u16) -> Self {
        let part = now.as_second().div_euclid(period).rem_euclid(i64::from(of));
        Self { part: u16::try_from(part).unwrap_or_default(), of }
    }

    /// Which part it is, counted from 0.
    pub fn part(self) -> u16 {
        self.part
    }

    /// How many parts there are.
    pub fn parts(self) -> u16 {
        self.of
    }

    /// Whether an object of this key is in it.
    pub fn has(self, key: &str) -> bool {
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256::digest(key)[..8]);
        u64::from_be_bytes(first) % u64::from(self.of) == u64::from(self.part)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<String> {
        (0..60).map(|n| format!("chunks/ab/{n}.zst")).collect()
    }

    #[test]
    fn weeks_begin_on_monday_and_days_at_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let sunday = at("2026-11-22T23:59:59Z");
        assert_eq!(Subset::of_week(at("2026-11-16T00:00:00Z")), Subset::of_week(sunday));
        assert_ne!(Subset::of_week(at("2026-11-23T00:00:00Z")), Subset::of_week(sunday));
        assert_eq!(Subset::of_day(at("2026-11-22T00:00:00Z")), Subset::of_day(sunday));
        assert_ne!(Subset::of_day(at("2026-11-23T00:00:00Z")), Subset::of_day(sunday));
    }

    #[test]
    fn the_parts_are_about_equal() {
        let now = "2026-11-21T03:00:00Z".parse().unwrap();
        let keys: Vec<_> = (0..28_000).map(|n| n.to_string()).collect();
        let found = keys.iter().filter(|key| Subset::of_day(now).has(key)).count();
        assert!((900..1100).contains(&found), "{found}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn within_any_month_every_object_is_read_once_at_least(
            year in 1965_i16..2100,
            month in 1_i8..=12,
            // At whichever time of each day it runs.
            seconds in proptest::collection::vec(0..DAY, 31),
        ) {
            let first = date(year, month, 1);
            let days = i64::from(first.days_in_month());
            let at = |day: i64| {
                let midnight = (first + day.days()).to_zoned(TimeZone::UTC).unwrap().timestamp();
                midnight + seconds[usize::try_from(day).unwrap()].seconds()
            };
            let daily: Vec<_> = (0..days).map(|day| Subset::of_day(at(day))).collect();
            let weekly: Vec<_> =
                (0..days).step_by(7).map(|day| Subset::of_week(at(day))).collect();
            for key in keys() {
                let times = daily.iter().filter(|subset| subset.has(&key)).count();
                prop_assert!((1..=2).contains(&times), "{times} times");
                prop_assert!(weekly.iter().any(|subset| subset.has(&key)), "no week has it");
            }
        }
    }
}
