//! How times are written, and which day it is.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// In which time zone lines are stamped and days begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TimeStyle {
    /// Universal time: `2026-11-21T05:47:24.123456Z`.
    #[default]
    Utc,
    /// The machine's zone, as it is when logging is built: `2026-11-21T06:47:24.123456+01:00`.
    Local,
}

/// A time zone that was looked up once.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) fn new(style: TimeStyle) -> Self {
        Self(match style {
            TimeStyle::Utc => TimeZone::UTC,
            TimeStyle::Local => TimeZone::system(),
        })
    }

    pub(crate) fn day(&self, now: Timestamp) -> Date {
        self.0.to_datetime(now).date()
    }

    /// The moment with microseconds.
    pub(crate) fn stamp(&self, now: Timestamp) -> String {
        if self.0 == TimeZone::UTC {
            format!("{now:.6}")
        } else {
            format!("{:.6}", now.display_with_offset(self.0.to_offset(now)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_microseconds_and_the_zone_says_the_day() {
        let now: Timestamp = "2026-11-21T23:30:00.1Z".parse().unwrap();
        let utc = Zone::new(TimeStyle::Utc);
        assert_eq!(utc.stamp(now), "2026-11-21T23:30:00.100000Z");
        assert_eq!(utc.day(now).to_string(), "2026-11-21");
        let east = Zone(TimeZone::fixed(jiff::tz::offset(1)));
        assert_eq!(east.stamp(now), "2026-11-22T00:30:00.100000+01:00");
        assert_eq!(east.day(now).to_string(), "2026-11-22");
    }
}
