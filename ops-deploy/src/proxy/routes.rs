//! The pointer in memory, and who is still being answered by whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Mutex as AsyncMutex;

use super::pointer_file::PointerFile;
use super::tally::Tally;
use crate::error::{Error, ErrorKind};
use crate::traffic::{Pointer, Upstream};

/// The pointer and the counts, under one lock: a request is counted in the same moment in which it
/// learns where to go, so that a drained instance has really had its last request.
#[derive(Debug)]
pub(super) struct Routes {
    now: Mutex<Now>,
    file: Arc<PointerFile>,
    one_writer: AsyncMutex<()>,
}

#[derive(Debug)]
struct Now {
    pointer: Pointer,
    in_flight: HashMap<Upstream, u64>,
    /// Of the instances that answered last, the oldest first.
    tallies: Vec<(Upstream, Tally)>,
}

/// How many instances are remembered after their traffic went.
const REMEMBERED: usize = 16;

/// One request under way. Dropping it ends the count.
#[derive(Debug)]
pub(super) struct Ticket {
    routes: Arc<Routes>,
    pub upstream: Upstream,
}

impl Ticket {
    /// Counts the answer; `None` is one that the proxy had to make itself.
    pub(super) fn count(&self, status: Option<StatusCode>, took: Duration) {
        let mut now = self.routes.now();
        let known = now.tallies.iter().position(|(upstream, _)| *upstream == self.upstream);
        let at = known.unwrap_or_else(|| {
            if now.tallies.len() == REMEMBERED {
                now.tallies.remove(0);
            }
            now.tallies.push((self.upstream.clone(), Tally::default()));
            now.tallies.len() - 1
        });
        now.tallies[at].1.count(status, took);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut now = self.routes.now();
        if let Some(count) = now.in_flight.get_mut(&self.upstream) {
            *count -= 1;
            if *count == 0 {
                now.in_flight.remove(&self.upstream);
            }
        }
    }
}

impl Routes {
    pub(super) fn new(file: PointerFile) -> Result<Self, Error> {
        let now = Now { pointer: file.read()?, in_flight: HashMap::new(), tallies: Vec::new() };
        Ok(Self { now: Mutex::new(now), file: Arc::new(file), one_writer: AsyncMutex::new(()) })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pointer(&self) -> Pointer {
        self.now().pointer.clone()
    }

    /// Where a new request goes; `None` if nowhere.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Ticket> {
        let mut now = self.now();
        let upstream = now.pointer.upstream.clone()?;
        *now.in_flight.entry(upstream.clone()).or_default() += 1;
        Some(Ticket { routes: Arc::clone(self), upstream })
    }

    pub(super) fn in_flight(&self, upstream: &Upstream) -> u64 {
        self.now().in_flight.get(upstream).copied().unwrap_or(0)
    }

    pub(super) fn all_in_flight(&self) -> Vec<(Upstream, u64)> {
        self.now().in_flight.iter().map(|(upstream, count)| (upstream.clone(), *count)).collect()
    }

    pub(super) fn tallies(&self) -> Vec<(Upstream, Tally)> {
        self.now().tallies.clone()
    }

    /// Moves the pointer: on disk first, then for the requests, so that a restart never goes back
    /// behind what requests have seen.
    pub(super) async fn switch(
        &self,
        expected_epoch: u64,
        to: Option<&Upstream>,
    ) -> Result<Pointer, Error> {
        let _writing = self.one_writer.lock().await;
        let before = self.pointer();
        let after = before.moved(expected_epoch, to)?;
        let (file, new) = (Arc::clone(&self.file), after.clone());
        tokio::task::spawn_blocking(move || file.write(&before, &new)).await.map_err(
            |join| Error::new(ErrorKind::Io, "writing the pointer panicked").caused_by(join),
        )??;
        self.now().pointer = after.clone();
        Ok(after)
    }
}
