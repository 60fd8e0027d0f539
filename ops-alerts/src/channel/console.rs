//! Alerts as text on a stream.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::Mutex;

use super::{Channel, Limits, Receipt};
use crate::alert::Alert;
use crate::error::Error;

/// Writes each alert as text. Control characters are escaped, and the lines of a body are indented,
/// so that no alert looks like another one.
pub struct ConsoleChannel {
    name: String,
    limits: Limits,
    // Held by the thread that writes, so that a stream that stalls costs one thread and no more.
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl ConsoleChannel {
    /// Writes to the standard error stream.
    pub fn stderr() -> Self {
        Self::new("stderr", std::io::stderr())
    }

    /// Writes to this stream. Messages are at most 16 KiB.
    pub fn new(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        let out: Box<dyn Write + Send> = Box::new(out);
        Self { name: name.into(), limits: Limits::new(16 * 1024), out: Arc::new(Mutex::new(out)) }
    }

    /// Cuts messages to so many bytes.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits = Limits::new(bytes);
        self
    }
}

impl fmt::Debug for ConsoleChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleChannel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Channel for ConsoleChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
        async move {
            let text = text(alert, self.limits.max_bytes);
            let mut out = Arc::clone(&self.out).lock_owned().await;
            let write = move || out.write_all(text.as_bytes()).and_then(|()| out.flush());
            tokio::task::spawn_blocking(write)
                .await
                .map_err(|source| Error::panicked(&self.name, source))?
                .map_err(|source| {
                    Error::io(format!("channel `{}` cannot be written", self.name), source)
                })?;
            Ok(Receipt::new(&self.name, "written"))
        }
        .boxed()
    }
}

/// `CRITICAL production 2026-11-21T05:47:24Z title (id)`, the body and the facts indented.
fn text(alert: &Alert, max_bytes: usize) -> String {
    let severity = alert.severity.to_string().to_uppercase();
    let mut text = format!("{severity} {} {:.0} ", alert.environment, alert.at);
    escape(&mut text, &alert.title);
    text.push_str(" (");
    text.push_str(alert.id.as_str());
    text.push(')');
    for line in alert.body.lines() {
        text.push_str("\n    ");
        escape(&mut text, line);
    }
    for (name, value) in &alert.fields {
        text.push_str("\n    ");
        escape(&mut text, name);
        text.push_str(": ");
        escape(&mut text, value);
    }
    let room = max_bytes.saturating_sub(1);
    if text.len() > room {
        let end = text.floor_char_boundary(room.saturating_sub(6));
        text.truncate(end);
        text.push_str(" [cut]");
        text.truncate(room);
    }
    text.push('\n');
    text
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        let reorders = matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

#[cfg(test)]
mod tests {
    use ops_core::Environment;

    use super::*;
    use crate::alert::Severity;

    #[test]
    fn an_alert_cannot_look_like_two() {
        let alert = Alert::new(Severity::High, "a\nCRITICAL b\u{1b}[2J", Environment::Staging)
            .id("x".parse().unwrap())
            .at("2026-11-21T01:02:03.9Z".parse().unwrap())
            .body("one\nCRITICAL two\r")
            .field("host", "db-1\nCRITICAL");
        assert_eq!(
            text(&alert, 1000),
            "HIGH staging 2026-11-21T01:02:03Z a\\nCRITICAL b\\u{1b}[2J (x)\n    one\n    \
             CRITICAL two\\r\n    host: db-1\\nCRITICAL\n"
        );
        let cut = text(&alert, 50);
        assert_eq!((cut.len(), cut.ends_with(" [cut]\n")), (50, true), "{cut}");
    }
}
