//! One process of the proxy gives its place to another, and no request is lost over it.
//!
//! The listening sockets themselves go to the successor, by `SCM_RIGHTS` over a unix socket. What
//! waits in their queues waits there for either of the two; with `SO_REUSEPORT` each would have a
//! queue of its own, and what waits in the old one would be lost with it.
//!
//! ```text
//! successor                       predecessor
//! hello, schema             ->
//!                           <-    offer: schema, address, and the sockets
//! ready, where it listens   ->                                  (until here the old one serves)
//!                                 accepts no more, switches no more, frees `serving.lock`
//!                           <-    yours: the requests under way, what was answered
//! takes `serving.lock`
//! serving                   ->                                  (from here the new one serves)
//!                           <-    enter, counted, left: of what the old one is still asked
//! entered: where to         ->
//! ending                    ->                                  (both end)
//! ```
//!
//! Who holds `serving.lock` serves, and moves the pointer; the kernel frees it when its holder dies.
//! So there are never two, and where the successor dies, at whatever moment, its predecessor takes
//! the lock again and serves on, also from the middle of its own draining. `proxy.lock` is held
//! by both through one open file: it says that the folder is taken, and nobody slips in between.
//!
//! The predecessor closes no connection on which a client may be about to ask: it answers one more
//! request on each, and says `connection: close` with the answer. For each of these requests it asks
//! its successor where to send it, for the pointer may have moved; and they are counted there, so
//! that an instance counts as drained only when both processes have no request for it.

#[cfg(test)]
mod dying;
mod give;
mod link;
mod lock;
mod messages;
mod take;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

pub(super) use give::{Applicant, Decision, come_back, give, next_applicant};
pub(super) use link::{Ask, Successor, SuccessorEnded, serve_predecessor};
pub(super) use lock::{FolderLock, ServingLock};
pub(super) use take::{Predecessor, Taken, Took, take};

/// How long one side of a handover waits for the other's next word.
const WORD_WAIT: Duration = Duration::from_secs(10);
/// How long a successor may take to serve, once it may.
const SERVE_WAIT: Duration = Duration::from_secs(3);

/// How long it may take until what a process had is free that has died.
pub(super) const DEATH_WAIT: Duration = Duration::from_secs(5);

/// Where a proxy hears its successor.
pub(super) const SOCKET: &str = "next.sock";

/// What a process has in common with its successor.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Of the public.
    pub public: TcpListener,
    /// Of the deployers.
    pub admin: Arc<UnixListener>,
    /// Of successors.
    pub next: UnixListener,
    /// Says that the folder has its proxy.
    pub folder: FolderLock,
}
