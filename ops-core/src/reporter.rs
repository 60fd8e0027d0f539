//! Who hears the reports.

use std::fmt::Debug;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::report::Report;

/// Hears the report of every operation.
///
/// A reporter that fails, panics or hangs never changes an operation's outcome; it delays its end
/// by the context's `reporter_budget` at most, and is dropped then.
pub trait Reporter: Debug + Send + Sync {
    /// Takes one report.
    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), Error>>;
}

/// Appends each report as one line of JSON to a file a month: `reports-2026-11.jsonl`.
///
/// A line is written with one call to a file opened for appending, so that several processes can
/// share the folder.
#[derive(Debug, Clone)]
pub struct JsonLinesReporter {
    folder: PathBuf,
}

impl JsonLinesReporter {
    /// Writes into this folder, which is created when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Reporter for JsonLinesReporter {
    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let month = report.timestamp.strftime("%Y-%m");
            let path = self.folder.join(format!("reports-{month}.jsonl"));
            let mut line = serde_json::to_vec(report).map_err(|source| {
                Error::new(ErrorKind::InvalidInput, "the report is no JSON").caused_by(source)
            })?;
            line.push(b'\n');
            let write = move || {
                let io = |source| Error::io("append the report to", &path, source);
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(io)?;
                }
                let options = std::fs::OpenOptions::new().append(true).create(true).clone();
                let mut file = options.open(&path).map_err(io)?;
                file.write_all(&line).map_err(io)
            };
            tokio::task::spawn_blocking(write).await.map_err(|source| {
                Error::new(ErrorKind::Io, "the writing of the report panicked").caused_by(source)
            })?
        }
        .boxed()
    }
}

/// Writes each report to `tracing`, under the target `ops::report`: success as info, the rest as
/// errors.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceReporter;

impl Reporter for TraceReporter {
    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), Error>> {
        let (id, event, took) = (report.id, report.event.as_str(), report.duration_ms);
        if report.outcome.is_success() {
            tracing::info!(target: "ops::report", %id, duration_ms = took, "{event}");
        } else {
            let error = report.error.join(": ");
            tracing::error!(target: "ops::report", %id, duration_ms = took, error, "{event}");
        }
        async { Ok(()) }.boxed()
    }
}

/// Keeps every report in memory, for a status page or a test. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryReporter(Arc<std::sync::Mutex<Vec<Report>>>);

impl MemoryReporter {
    /// The reports so far.
    pub fn reports(&self) -> Vec<Report> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Reporter for MemoryReporter {
    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), Error>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(report.clone());
        async { Ok(()) }.boxed()
    }
}

/// Hands a report to all reporters at once and waits for the budget at most. Returns what went
/// wrong, for the log.
pub(crate) async fn fan_out(cx: &Context, report: &Report) {
    let report = Arc::new(report.clone());
    let tasks: Vec<_> =
        cx.0.reporters
            .iter()
            .cloned()
            .map(|reporter| {
                let report = Arc::clone(&report);
                // On a task of its own, so that a panic stays there and a hanging one can be left.
                let task = tokio::spawn(async move { reporter.report(&report).await });
                let abort = task.abort_handle();
                let budget = cx.0.reporter_budget;
                async move {
                    let lost = match tokio::time::timeout(budget, task).await {
                        Ok(Ok(Ok(()))) => return,
                        Ok(Ok(Err(error))) => crate::error::chain(&error).join(": "),
                        Ok(Err(join)) => format!("it panicked: {join}"),
                        Err(_) => {
                            abort.abort();
                            format!("it did not answer within {budget:?}")
                        }
                    };
                    metrics::counter!("ops_reports_lost_total").increment(1);
                    tracing::warn!(target: "ops::report", "a reporter failed: {lost}");
                }
            })
            .collect();
    futures::future::join_all(tasks).await;
}
