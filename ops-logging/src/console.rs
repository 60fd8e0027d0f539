//! The second output: a terminal, or whatever stands in its place.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::sink::{Counts, Sink};

/// Which stream lines go to besides the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Console {
    /// None.
    #[default]
    Off,
    /// The standard error stream.
    Stderr,
    /// The standard output stream.
    Stdout,
}

impl Console {
    pub(crate) fn writer(self) -> Option<Box<dyn Write + Send>> {
        match self {
            Self::Off => None,
            Self::Stderr => Some(Box::new(std::io::stderr())),
            Self::Stdout => Some(Box::new(std::io::stdout())),
        }
    }
}

/// Writes each line to a stream and counts those that it refuses.
pub(crate) struct ConsoleSink(Mutex<(Box<dyn Write + Send>, Counts)>);

impl ConsoleSink {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new((out, Counts::default())))
    }
}

impl fmt::Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsoleSink").field(&self.counts()).finish()
    }
}

impl Sink for ConsoleSink {
    fn write(&self, _now: Timestamp, line: &[u8]) {
        let (out, counts) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.emitted += 1;
        // A buffered stream shows a line at once, or the last words of a crash are lost.
        match out.write_all(line).and_then(|()| out.flush()) {
            Ok(()) => counts.written += 1,
            Err(_) => counts.dropped += 1,
        }
    }

    fn flush(&self) {
        let (out, _) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each line was flushed and counted when it was written.
        let _ = out.flush();
    }

    fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_counted_and_harms_nobody() {
        let sink = ConsoleSink::new(Box::new(Closed));
        sink.write(Timestamp::UNIX_EPOCH, b"x\n");
        sink.flush();
        assert_eq!(sink.counts(), Counts { emitted: 1, written: 0, dropped: 1 });
    }
}
