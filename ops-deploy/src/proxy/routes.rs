//! The pointer in memory, and who is still being answered by whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::pointer_file::PointerFile;
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
}

/// One request under way. Dropping it ends the count.
#[derive(Debug)]
pub(super) struct Ticket {
    routes: Arc<Routes>,
    pub upstream: Upstream,
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
        let now = Now { pointer: file.read()?, in_flight: HashMap::new() };
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
