//! Where finished lines go.

use std::fmt::Debug;

use jiff::Timestamp;

/// What became of the lines that were handed over.
///
/// `emitted = written + dropped` holds in every snapshot. The lines that logging adds of its own,
/// such as `lines_lost=`, are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Lines that were handed over.
    pub emitted: u64,
    /// Lines that the operating system took whole.
    pub written: u64,
    /// Lines that were lost.
    pub dropped: u64,
}

/// Takes finished lines: formatted, redacted, escaped, ending in their only line break.
///
/// This is the boundary behind which the way of writing can change.
pub(crate) trait Sink: Debug + Send + Sync {
    /// Takes one line of this moment. What cannot be written is counted.
    fn write(&self, now: Timestamp, line: &[u8]);

    /// Returns when what was written is as durable as it gets.
    fn flush(&self);

    fn counts(&self) -> Counts;
}
