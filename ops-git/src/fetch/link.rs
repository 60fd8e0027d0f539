//! Waiting for a remote so that the wait can always be ended.
//!
//! gix reads and writes as it likes and cannot be told to stop while it does. So each of its reads
//! and writes is a future here, on a runtime that belongs to the thread of the fetch, and ends when
//! the fetch is to stop.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ops_core::Redactor;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};

/// Asks a fetch to end: its waits by a token, gix's own loops by a flag.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    token: CancellationToken,
    flag: Arc<AtomicBool>,
}

impl Stop {
    pub(super) fn raise(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    pub(super) fn is_raised(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// An error once the fetch is to end.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_raised() {
            return Err(Error::new(ErrorKind::Cancelled, "the fetch was asked to end"));
        }
        Ok(())
    }
}

/// What gix's readers and writers see of [`Stop`]. Not `Interrupted`: that one is tried again.
fn stopped() -> io::Error {
    io::Error::other("the fetch was asked to end")
}

/// The waits of one fetch.
pub(super) struct Link {
    /// Always there but while it is dropped.
    runtime: Option<Runtime>,
    pub(super) stop: Stop,
    pub(super) redactor: Redactor,
    /// What a stream knows better than gix, which only hears of an input or output error.
    cause: Mutex<Option<Error>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(stop: Stop, redactor: Redactor) -> Result<Arc<Self>, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|source| {
            Error::new(ErrorKind::Io, "no event loop for the fetch").caused_by(source)
        })?;
        Ok(Arc::new(Self { runtime: Some(runtime), stop, redactor, cause: Mutex::default() }))
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken by the drop alone")
    }

    /// Waits for this, or for the end of the fetch.
    pub(super) fn wait<F: Future>(&self, work: F) -> io::Result<F::Output> {
        self.runtime().block_on(async {
            tokio::select! {
                biased;
                () = self.stop.token.cancelled() => Err(stopped()),
                done = work => Ok(done),
            }
        })
    }

    /// Waits for this although the fetch is to end: only for what is bounded.
    pub(super) fn wait_anyway<F: Future>(&self, work: F) -> F::Output {
        self.runtime().block_on(work)
    }

    /// Lets this go on while others are waited for.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime().spawn(work));
    }

    /// Keeps what went wrong for whoever gets gix's error, and answers what to tell gix.
    pub(super) fn fail(&self, error: Error) -> io::Error {
        let text = error.to_string();
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other(text)
    }

    pub(super) fn cause(&self) -> Option<Error> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name that is being looked up cannot be given up; it must not be waited for.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_wait_ends_when_the_fetch_is_to_end() {
        let stop = Stop::default();
        let link = Link::new(stop.clone(), Redactor::default()).unwrap();
        assert_eq!(link.wait(async { 7 }).unwrap(), 7);
        let begun = Instant::now();
        let raising = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            stop.raise();
        });
        assert!(link.wait(std::future::pending::<()>()).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        raising.join().unwrap();
        assert!(link.wait(async { 7 }).is_err(), "it stays ended");
        assert!(link.stop.check().is_err());
    }
}
