//! When a new file begins.

use jiff::civil::Date;

/// What ends a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) daily: bool,
}

/// Whether a line of so many bytes on this day needs a new file.
///
/// The day before the file's own does not: it comes from threads that overtake each other at
/// midnight, and from a clock that was set back a little. A longer way back does, or a clock that
/// once stood far ahead would end the daily rotation for years.
pub(super) fn needs_new(limits: Limits, day: Date, bytes: u64, today: Date, line: u64) -> bool {
    let full = bytes > 0 && bytes.saturating_add(line) > limits.max_bytes;
    let yesterday = day.yesterday().unwrap_or(Date::MIN);
    full || (limits.daily && today != day && today != yesterday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_or_day_whichever_first() {
        let day = |d| jiff::civil::date(2026, 11, d);
        for (daily, bytes, today, line, expected) in [
            (true, 0, 21, 10, false),
            (true, 90, 21, 10, false),
            (true, 91, 21, 10, true),
            (true, 0, 21, 1000, false),
            (true, 1, 21, 1000, true),
            (true, u64::MAX, 21, 10, true),
            (true, 0, 22, 10, true),
            (true, 5, 29, 10, true),
            (true, 5, 20, 10, false),
            (true, 91, 20, 10, true),
            (true, 5, 19, 10, true),
            (false, 5, 22, 10, false),
            (false, 91, 22, 10, true),
        ] {
            let limits = Limits { max_bytes: 100, daily };
            let got = needs_new(limits, day(21), bytes, day(today), line);
            assert_eq!(got, expected, "daily={daily} bytes={bytes} today={today} line={line}");
        }
    }
}
