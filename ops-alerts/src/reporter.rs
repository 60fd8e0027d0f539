//! From the reports of operations to every channel.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::{BoxFuture, FutureExt as _, join_all};
use ops_core::error::chain;
use ops_core::{Redactor, Report, Reporter};

use crate::alert::Alert;
use crate::channel::Channel;
use crate::dead_letter::DeadLetter;
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind};
use crate::template::{When, alert_of};

/// What became of the alerts. `accepted = delivered + undelivered` when none is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AlertCounts {
    /// Alerts that were handed over.
    pub accepted: u64,
    /// Those that at least one channel took.
    pub delivered: u64,
    /// Those that no channel took.
    pub undelivered: u64,
    /// Channels that gave up on an alert, whether or not another one took it.
    pub failed_channels: u64,
    /// Alerts that no channel took and the dead-letter file did not take either.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    delivered: AtomicU64,
    undelivered: AtomicU64,
    failed_channels: AtomicU64,
    lost: AtomicU64,
}

/// Turns reports into alerts and sends each to all channels at once. Clones share the channels and
/// the counts.
///
/// Each channel has its own attempts and deadline. An alert is delivered when one channel took it;
/// what a further channel refused is logged under the target `ops::alert`. What no channel took is
/// an error, counted in `ops_alerts_undelivered_total`, and written to the dead-letter file; also
/// when the future is dropped before a channel answered.
///
/// ```
/// use ops_alerts::{AlertReporter, MemoryChannel};
///
/// let channel = MemoryChannel::new("pager");
/// let reporter = AlertReporter::new().channel(channel.clone());
/// // ops_core::Context::builder(..).reporter(reporter.clone())
/// assert_eq!(reporter.counts().accepted, 0);
/// ```
#[derive(Debug, Clone, Default)]
pub struct AlertReporter {
    channels: Vec<Arc<dyn Channel>>,
    when: When,
    delivery: Delivery,
    redactor: Redactor,
    dead_letters: Option<PathBuf>,
    counters: Arc<Counters>,
}

impl AlertReporter {
    /// Without a channel, every alert is undelivered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends to this channel too.
    pub fn channel(mut self, channel: impl Channel + 'static) -> Self {
        self.channels.push(Arc::new(channel));
        self
    }

    /// Which reports become alerts. Default [`When::Trouble`].
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// How often and how long each channel is tried. See [`Delivery`] for the defaults.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Takes the secrets that this redactor knows out of every alert.
    pub fn redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// Appends what no channel took to this file, as [`DeadLetter`]s in lines of JSON.
    pub fn dead_letters(mut self, path: impl Into<PathBuf>) -> Self {
        self.dead_letters = Some(path.into());
        self
    }

    /// What became of the alerts so far.
    pub fn counts(&self) -> AlertCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AlertCounts {
            accepted: get(&self.counters.accepted),
            delivered: get(&self.counters.delivered),
            undelivered: get(&self.counters.undelivered),
            failed_channels: get(&self.counters.failed_channels),
            lost: get(&self.counters.lost),
        }
    }

    /// Sends an alert to all channels at once and waits for all. Dropping the future gives up on
    /// those that have not answered.
    ///
    /// # Errors
    /// [`ErrorKind::Undelivered`] if no channel took it, with every channel's reason.
    pub async fn send(&self, alert: &Alert) -> Result<(), Error> {
        let alert = alert.redacted(&self.redactor);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let mut pending = Pending { reporter: self, alert: Some(alert.clone()) };
        let sends = self.channels.iter().map(|channel| {
            let (alert, pending) = (&alert, &self.delivery);
            async move {
                let sent = pending.send(&**channel, alert).await;
                sent.map_err(|error| (channel.name().to_owned(), chain(&error).join(": ")))
            }
        });
        let mut failures = Vec::new();
        let mut taken = false;
        for sent in join_all(sends).await {
            match sent {
                Ok(_) => taken = true,
                Err((channel, error)) => {
                    self.counters.failed_channels.fetch_add(1, Ordering::Relaxed);
                    let error = self.redactor.redact(&error);
                    tracing::warn!(target: "ops::alert", id = %alert.id, channel, "{error}");
                    failures.push((channel, error));
                }
            }
        }
        pending.alert = None;
        if taken {
            self.counters.delivered.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let error = undelivered(&alert, &failures);
        let this = self.clone();
        let bury = tokio::task::spawn_blocking(move || this.bury(alert, failures));
        // A panic there was counted by nobody; it has no code that could.
        if bury.await.is_err() {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        Err(error)
    }

    /// Counts what nobody took and writes it down. Blocks.
    fn bury(&self, alert: Alert, reasons: Vec<(String, String)>) {
        self.counters.undelivered.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("ops_alerts_undelivered_total").increment(1);
        let id = alert.id.clone();
        let title = alert.title.clone();
        let written = match &self.dead_letters {
            None => Err("there is no dead-letter file".to_owned()),
            Some(path) => DeadLetter::new(alert, reasons)
                .append_to(path)
                .map_err(|error| format!("cannot write `{}`: {error}", path.display())),
        };
        match written {
            Ok(()) => {
                tracing::error!(target: "ops::alert", %id, title, "undelivered; in the dead letters");
            }
            Err(why) => {
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(target: "ops::alert", %id, title, "undelivered and lost: {why}");
            }
        }
    }
}

/// An alert on its way. If it is dropped there, the alert is buried.
struct Pending<'a> {
    reporter: &'a AlertReporter,
    alert: Option<Alert>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(alert) = self.alert.take() {
            // Some channel may have taken it: told twice is better than never.
            let why = "the sender gave up before the channels answered".to_owned();
            self.reporter.bury(alert, vec![("*".to_owned(), why)]);
        }
    }
}

fn undelivered(alert: &Alert, failures: &[(String, String)]) -> Error {
    let mut why: Vec<_> =
        failures.iter().map(|(channel, error)| format!("{channel}: {error}")).collect();
    if why.is_empty() {
        why.push("there is no channel".to_owned());
    }
    let why = why.join("; ");
    Error::new(ErrorKind::Undelivered, format!("no channel took alert `{}`: {why}", alert.id))
}

impl Reporter for AlertReporter {
    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), ops_core::Error>> {
        async move {
            if !self.when.wants(report) {
                return Ok(());
            }
            self.send(&alert_of(report)).await.map_err(|source| {
                ops_core::Error::new(ops_core::ErrorKind::Io, "the alert was not delivered")
                    .caused_by(source)
            })
        }
        .boxed()
    }
}
