//! What was lost, and how that is told.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::console::Console;

/// Lines that were lost in a row.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    pub(super) lines: u64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The first reason; the others follow from it most of the time.
    pub(super) reason: String,
}

impl Loss {
    pub(super) fn add(loss: &mut Option<Self>, now: Timestamp, reason: &str) {
        match loss {
            Some(loss) => {
                loss.lines += 1;
                loss.from = loss.from.min(now);
                loss.to = loss.to.max(now);
            }
            None => *loss = Some(Self { lines: 1, from: now, to: now, reason: reason.to_owned() }),
        }
    }
}

/// Tells a person, at most once a second, what a log cannot say of itself.
#[derive(Debug)]
pub(super) struct Trouble {
    console: Console,
    quiet_until: Duration,
}

impl Trouble {
    pub(super) fn new(console: Console) -> Self {
        Self { console, quiet_until: Duration::ZERO }
    }

    /// Says so, unless something was said within the last second.
    pub(super) fn tell(&mut self, elapsed: Duration, what: &str) {
        if elapsed < self.quiet_until {
            return;
        }
        self.quiet_until = elapsed + Duration::from_secs(1);
        if let Some(mut out) = self.console.writer() {
            // There is nowhere left to say that this failed too.
            let _ =
                out.write_all(format!("logging: {what}\n").as_bytes()).and_then(|()| out.flush());
        }
    }
}
