//! The names of log files, and nothing else is one.

use std::fmt;

use jiff::civil::Date;

/// The name of one file: `app-2026-11-21.000001.log`, or `app.p4711-2026-11-21.000001.log` for
/// those of a process that found another one at work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentName {
    pub(crate) set: SetName,
    pub(crate) day: Date,
    pub(crate) sequence: u64,
}

/// The files that belong together: `app`, `app.p4711` or `app.p4711.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetName {
    pub(crate) prefix: String,
    /// The process, and a number for its further sets; none for the set of the prefix itself.
    pub(crate) process: Option<(u32, u32)>,
}

/// Whether files can begin so: 1 to 64 ASCII letters, digits, `_` and `-`. A dot would make the
/// names ambiguous.
pub(crate) fn is_prefix(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl SegmentName {
    /// Reads the name of a file of this prefix; none for every other file's name.
    pub fn parse(prefix: &str, file: &str) -> Option<Self> {
        let rest = file.strip_prefix(prefix)?.strip_suffix(".log")?;
        // The first dash is the one before the day: neither a dot nor a process id has one.
        let (process, rest) = rest.split_once('-')?;
        let process = match process.strip_prefix(".p") {
            None if process.is_empty() => None,
            None => return None,
            Some(process) => Some(match process.split_once('.') {
                None => (number(process, 1)?, 1),
                Some((pid, further)) => {
                    (number(pid, 1)?, number(further, 1).filter(|further| *further > 1)?)
                }
            }),
        };
        let (day, sequence) = rest.split_at_checked(10)?;
        let day: Date = Some(day).filter(|day| is_day(day))?.parse().ok()?;
        let sequence = number(sequence.strip_prefix('.')?, 6)?;
        Some(Self { set: SetName { prefix: prefix.to_owned(), process }, day, sequence })
    }

    /// The day in the name.
    pub fn day(&self) -> Date {
        self.day
    }

    /// The number in the name, which only ever grows.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Four digits, two, two. The date's own parser takes more than this.
fn is_day(text: &str) -> bool {
    text.bytes().enumerate().all(|(i, b)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    })
}

/// A number as it would be written: at least so many digits, no further zeros before them.
fn number<N: std::str::FromStr>(text: &str, digits: usize) -> Option<N> {
    let well_formed = text.len() >= digits
        && text.bytes().all(|b| b.is_ascii_digit())
        && !(text.len() > digits && text.starts_with('0'));
    text.parse().ok().filter(|_| well_formed)
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)?;
        match self.process {
            None => Ok(()),
            Some((pid, 1)) => write!(f, ".p{pid}"),
            Some((pid, further)) => write!(f, ".p{pid}.{further}"),
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{:06}.log", self.set, self.day, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_exact_names_are_ours() {
        for ours in [
            "app-2026-11-21.000001.log",
            "app-2026-11-21.1000000.log",
            "app.p1-2026-11-21.000001.log",
            "app.p4711.2-2024-02-29.000009.log",
        ] {
            let name = SegmentName::parse("app", ours);
            assert_eq!(name.unwrap_or_else(|| panic!("{ours}")).to_string(), ours);
        }
        for foreign in [
            "app.log",
            "app",
            "app-.log",
            "app-2026-11-21.log",
            "app-2026-11-21.00001.log",
            "app-2026-11-21.0000001.log",
            "app-2026-11-21.000001.log.gz",
            "app-2026-11-21.000001.log~",
            "app-2026-11-21.+00001.log",
            "app-2026-11-32.000001.log",
            "app-2026-1-021.000001.log",
            "app-2026-11-21-000001.log",
            "app-web-2026-11-21.000001.log",
            "app2-2026-11-21.000001.log",
            "app-2026-11-21-2026-11-21.000001.log",
            "app.p0x-2026-11-21.000001.log",
            "app.p1.1-2026-11-21.000001.log",
            "app.p01-2026-11-21.000001.log",
            "app.p-2026-11-21.000001.log",
            "App-2026-11-21.000001.log",
            " app-2026-11-21.000001.log",
            "app-2026-11-21.000001.log\n",
            "app-20é6-11-2.000001.log",
            "app-2026-11-21.99999999999999999999.log",
        ] {
            assert_eq!(SegmentName::parse("app", foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            prefix in "[A-Za-z0-9_-]{1,12}",
            process in proptest::option::of((1u32.., 1u32..)),
            (year, month, day) in (0i16..=9999, 1i8..=12, 1i8..=28),
            sequence: u64,
        ) {
            let name = SegmentName {
                set: SetName { prefix: prefix.clone(), process },
                day: jiff::civil::date(year, month, day),
                sequence,
            };
            prop_assert_eq!(SegmentName::parse(&prefix, &name.to_string()), Some(name));
        }

        #[test]
        fn what_is_read_is_written_the_same(
            file in "app[.p0-9-]{0,8}-20[0-9]{2}-[0-9]{2}-[0-9]{2}\\.[0-9]{5,8}\\.log"
        ) {
            if let Some(name) = SegmentName::parse("app", &file) {
                prop_assert_eq!(name.to_string(), file);
            }
        }

        #[test]
        fn no_name_belongs_to_two_prefixes(
            one in "[a-c0-9_-]{1,14}", other in "[a-c0-9_-]{1,14}", sequence: u64,
        ) {
            prop_assume!(one != other);
            let set = SetName { prefix: one, process: None };
            let day = jiff::civil::date(2026, 11, 21);
            let name = SegmentName { set, day, sequence };
            prop_assert_eq!(SegmentName::parse(&other, &name.to_string()), None);
        }
    }
}
