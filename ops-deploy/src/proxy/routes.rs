//! The pointer in memory, and who is still being answered by whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc, oneshot};

use super::handover::Ask;
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
    one_writer: Arc<AsyncMutex<()>>,
}

#[derive(Debug)]
struct Now {
    pointer: Pointer,
    /// The requests under way, by their numbers.
    in_flight: HashMap<u64, Upstream>,
    last_number: u64,
    /// Whether nobody may move it any more.
    closed: bool,
    /// The process that has taken the place of this one, and knows where to go.
    successor: Option<mpsc::UnboundedSender<Ask>>,
    /// Of the instances that answered last, the oldest first.
    tallies: Vec<(Upstream, Tally)>,
}

/// How many instances are remembered after their traffic went.
const REMEMBERED: usize = 16;

/// One request under way. Dropping it ends the count.
#[derive(Debug)]
pub(super) struct Ticket {
    routes: Arc<Routes>,
    number: u64,
    pub upstream: Upstream,
}

/// Requests under way, by their numbers.
pub(super) type UnderWay = Vec<(u64, Upstream)>;
/// What instances have answered, the oldest first.
pub(super) type Tallies = Vec<(Upstream, Tally)>;

impl Ticket {
    /// Counts the answer; `None` is one that the proxy had to make itself.
    pub(super) fn count(&self, status: Option<StatusCode>, took: Duration) {
        let mut now = self.routes.now();
        if let Some(successor) = &now.successor {
            let _ = successor.send(Ask::Counted { id: self.number, status, took });
        }
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
        now.in_flight.remove(&self.number);
        if let Some(successor) = &now.successor {
            let _ = successor.send(Ask::Left { id: self.number });
        }
    }
}

/// A request that waits to hear where to go. Dropping it, since its client has hung up, ends the
/// count that the successor may have begun.
struct Wanted {
    id: u64,
    successor: Option<mpsc::UnboundedSender<Ask>>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(successor) = &self.successor {
            let _ = successor.send(Ask::Left { id: self.id });
        }
    }
}

impl Routes {
    pub(super) fn new(file: PointerFile) -> Result<Self, Error> {
        let now = Now {
            pointer: file.read()?,
            in_flight: HashMap::new(),
            last_number: 0,
            closed: false,
            successor: None,
            tallies: Vec::new(),
        };
        Ok(Self { now: Mutex::new(now), file: Arc::new(file), one_writer: Arc::default() })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pointer(&self) -> Pointer {
        self.now().pointer.clone()
    }

    /// Where a new request goes; `None` if nowhere.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Ticket> {
        loop {
            let (reply, answer) = oneshot::channel();
            let mut wanted = {
                let mut now = self.now();
                now.last_number += 1;
                let id = now.last_number;
                let Some(successor) = &now.successor else {
                    let upstream = now.pointer.upstream.clone()?;
                    return Some(self.ticket(&mut now, id, upstream));
                };
                let _ = successor.send(Ask::Enter { id, reply });
                Wanted { id, successor: Some(successor.clone()) }
            };
            // Who drops the question has gone, and that is known here by then.
            if let Ok(upstream) = answer.await {
                wanted.successor = None;
                return Some(self.ticket(&mut self.now(), wanted.id, upstream?));
            }
        }
    }

    fn ticket(self: &Arc<Self>, now: &mut Now, number: u64, upstream: Upstream) -> Ticket {
        now.in_flight.insert(number, upstream.clone());
        Ticket { routes: Arc::clone(self), number, upstream }
    }

    /// Counts a request that began with the process before this one.
    pub(super) fn adopt(self: &Arc<Self>, upstream: Upstream) -> Ticket {
        let mut now = self.now();
        now.last_number += 1;
        let number = now.last_number;
        self.ticket(&mut now, number, upstream)
    }

    /// Goes on counting where the process before this one was.
    pub(super) fn go_on_from(&self, tallies: Tallies) {
        self.now().tallies = tallies;
    }

    /// Lets nobody move the pointer until the guard is dropped.
    pub(super) async fn pause(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.one_writer).lock_owned().await
    }

    /// From now on each request asks the successor; answers what it has to know first.
    pub(super) fn leave_to(&self, successor: mpsc::UnboundedSender<Ask>) -> (UnderWay, Tallies) {
        let mut now = self.now();
        now.successor = Some(successor);
        let under_way = now.in_flight.iter().map(|(id, upstream)| (*id, upstream.clone()));
        (under_way.collect(), now.tallies.clone())
    }

    /// From now on each request follows the pointer on disk, which the successor may have moved.
    pub(super) async fn come_back(&self) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || file.read()).await.map_err(|join| {
            Error::new(ErrorKind::Io, "reading the pointer panicked").caused_by(join)
        });
        let mut now = self.now();
        now.successor = None;
        let pointer = read??;
        if pointer.epoch > now.pointer.epoch {
            now.pointer = pointer;
        }
        Ok(())
    }

    /// From now on nobody moves the pointer here: the folder may be another proxy's.
    pub(super) fn close(&self) {
        self.now().closed = true;
    }

    /// Whether another process has taken the place of this one.
    pub(super) fn has_left(&self) -> bool {
        self.now().successor.is_some()
    }

    pub(super) fn in_flight(&self, upstream: &Upstream) -> u64 {
        self.now().in_flight.values().filter(|it| *it == upstream).count() as u64
    }

    pub(super) fn all_in_flight(&self) -> Vec<(Upstream, u64)> {
        let mut all: Vec<(Upstream, u64)> = Vec::new();
        for upstream in self.now().in_flight.values() {
            match all.iter_mut().find(|(known, _)| known == upstream) {
                Some((_, count)) => *count += 1,
                None => all.push((upstream.clone(), 1)),
            }
        }
        all
    }

    pub(super) fn tallies(&self) -> Tallies {
        self.now().tallies.clone()
    }

    /// Moves the pointer: on disk first, then for the requests, so that a restart never goes back
    /// behind what requests have seen. `None` if another process does that now.
    pub(super) async fn switch(
        &self,
        expected_epoch: u64,
        to: Option<&Upstream>,
    ) -> Result<Option<Pointer>, Error> {
        let _writing = self.one_writer.lock().await;
        if self.has_left() {
            return Ok(None);
        }
        if self.now().closed {
            return Err(Error::new(ErrorKind::Proxy, "this proxy has ended"));
        }
        let before = self.pointer();
        let after = before.moved(expected_epoch, to)?;
        let (file, new) = (Arc::clone(&self.file), after.clone());
        tokio::task::spawn_blocking(move || file.write(&before, &new)).await.map_err(
            |join| Error::new(ErrorKind::Io, "writing the pointer panicked").caused_by(join),
        )??;
        self.now().pointer = after.clone();
        Ok(Some(after))
    }
}
