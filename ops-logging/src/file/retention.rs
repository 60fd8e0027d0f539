//! Which files go: a pure function of what lies there.

use jiff::civil::Date;

use super::name::SegmentName;

/// What is kept. Each limit that is set holds for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Files go so many days after the day in their name. Default 7.
    pub days: Option<u16>,
    /// At most so many files, the open one counted. Default: any number.
    pub files: Option<usize>,
    /// At most so many bytes in all files together; the open one stays whatever its size. Default:
    /// any number.
    pub total_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: Some(7), ..Self::keep_all() }
    }
}

/// One file that lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Its name.
    pub name: SegmentName,
    /// Its size.
    pub bytes: u64,
}

/// Why a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyRemoved {
    /// It is older than the days that are kept.
    Age,
    /// There are more files than are kept.
    Count,
    /// All together they are larger than what is kept.
    TotalSize,
}

/// One file that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// Its name.
    pub name: SegmentName,
    /// Why.
    pub why: WhyRemoved,
}

impl Segment {
    /// A file of this name and size.
    pub fn new(name: SegmentName, bytes: u64) -> Self {
        Self { name, bytes }
    }
}

impl Retention {
    /// Removes nothing.
    pub fn keep_all() -> Self {
        Self { days: None, files: None, total_bytes: None }
    }

    /// What goes on this day, oldest first. The open file never does.
    ///
    /// A day that lies ahead counts as today: a clock that once stood wrong makes no file last for
    /// ever where count or size are limited.
    pub fn removals(
        &self,
        segments: &[Segment],
        open: Option<&SegmentName>,
        today: Date,
    ) -> Vec<Removal> {
        let mut newest_first: Vec<&Segment> = segments.iter().collect();
        newest_first.sort_by(|a, b| {
            let key = |s: &Segment| (Some(&s.name) == open, s.name.day.min(today), s.name.sequence);
            key(b).cmp(&key(a)).then_with(|| b.name.set.cmp(&a.name.set))
        });
        let (mut files, mut bytes) = (0_usize, 0_u64);
        let mut removals = Vec::new();
        for segment in newest_first {
            let age = i64::from((today - segment.name.day.min(today)).get_days());
            let why = if Some(&segment.name) == open {
                None
            } else if self.days.is_some_and(|days| age > i64::from(days)) {
                Some(WhyRemoved::Age)
            } else if self.files.is_some_and(|limit| files >= limit) {
                Some(WhyRemoved::Count)
            } else if self.total_bytes.is_some_and(|limit| bytes + segment.bytes > limit) {
                Some(WhyRemoved::TotalSize)
            } else {
                None
            };
            if let Some(why) = why {
                removals.push(Removal { name: segment.name.clone(), why });
                if why == WhyRemoved::TotalSize {
                    // What is older than a file that found no room goes too: no holes in time.
                    bytes = u64::MAX / 2;
                }
            } else {
                files += 1;
                bytes = bytes.saturating_add(segment.bytes).min(u64::MAX / 2);
            }
        }
        removals.reverse();
        removals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::file::name::SetName;

    fn segment(day: i8, sequence: u64, bytes: u64) -> Segment {
        let set = SetName { prefix: "app".into(), process: None };
        let name = SegmentName { set, day: jiff::civil::date(2026, 11, day), sequence };
        Segment { name, bytes }
    }

    #[test]
    fn each_limit_by_itself() {
        use WhyRemoved::*;
        let all = [
            segment(10, 1, 10),
            segment(13, 2, 10),
            segment(14, 3, 10),
            segment(14, 4, 10),
            segment(21, 5, 10),
        ];
        let keep = Retention::keep_all();
        let check = |retention: Retention, expected: &[(u64, WhyRemoved)]| {
            let today = jiff::civil::date(2026, 11, 21);
            let got = retention.removals(&all, Some(&all[4].name), today);
            let got: Vec<_> = got.iter().map(|r| (r.name.sequence, r.why)).collect();
            assert_eq!(got, expected, "{retention:?}");
        };
        check(keep, &[]);
        check(Retention::default(), &[(1, Age), (2, Age)]);
        check(Retention { days: Some(0), ..keep }, &[(1, Age), (2, Age), (3, Age), (4, Age)]);
        check(Retention { files: Some(3), ..keep }, &[(1, Count), (2, Count)]);
        check(Retention { files: Some(1), ..keep }, &[1, 2, 3, 4].map(|n| (n, Count)));
        check(Retention { total_bytes: Some(35), ..keep }, &[(1, TotalSize), (2, TotalSize)]);
        check(Retention { total_bytes: Some(0), ..keep }, &[1, 2, 3, 4].map(|n| (n, TotalSize)));
        check(
            Retention { days: Some(8), files: Some(4), total_bytes: Some(20) },
            &[(1, Age), (2, TotalSize), (3, TotalSize)],
        );
    }

    proptest! {
        #[test]
        fn the_limits_hold_and_no_hole_is_torn(
            sizes in proptest::collection::vec((1i8..=30, 0u64..1000), 1..40),
            days in proptest::option::of(0u16..40),
            files in proptest::option::of(1usize..50),
            total_bytes in proptest::option::of(0u64..20_000),
            today in 1i8..=30,
        ) {
            let segments: Vec<_> =
                sizes.iter().zip(1..).map(|((day, bytes), n)| segment(*day, n, *bytes)).collect();
            let open = segments.last().unwrap().name.clone();
            let today = jiff::civil::date(2026, 11, today);
            let retention = Retention { days, files, total_bytes };
            let removals = retention.removals(&segments, Some(&open), today);
            let gone = |s: &Segment| removals.iter().any(|r| r.name == s.name);
            prop_assert!(removals.iter().all(|r| r.name != open));
            let kept: Vec<_> = segments.iter().filter(|s| !gone(s)).collect();
            if let Some(files) = files {
                prop_assert!(kept.len() <= files);
            }
            if let Some(limit) = total_bytes {
                let closed: u64 = kept.iter().map(|s| s.bytes).sum();
                let open_bytes = segments.last().unwrap().bytes;
                prop_assert!(closed <= limit.max(open_bytes));
            }
            for s in &segments {
                let age = (today - s.name.day.min(today)).get_days();
                if let Some(days) = days.filter(|days| age > i32::from(*days)) {
                    prop_assert!(gone(s) || s.name == open, "{age} {days}");
                }
            }
            // Whatever is kept is not older than anything that went, the open file aside.
            let key = |name: &SegmentName| (name.day.min(today), name.sequence);
            let newest_gone = removals.iter().map(|r| key(&r.name)).max();
            let oldest_kept =
                kept.iter().filter(|s| s.name != open).map(|s| key(&s.name)).min();
            if let (Some(gone), Some(kept)) = (newest_gone, oldest_kept) {
                prop_assert!(gone < kept);
            }
        }
    }
}
