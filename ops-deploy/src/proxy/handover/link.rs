//! What a predecessor is still asked: its successor knows where to, and counts it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::messages::{FromPredecessor, FromSuccessor};
use super::wire::{Hears, Peer, Says};
use crate::proxy::routes::{Routes, Ticket};
use crate::traffic::Upstream;

/// What a request that came to the predecessor wants of the successor.
#[derive(Debug)]
pub(in crate::proxy) enum Ask {
    /// To know where to go. Without an answer, the successor has gone.
    Enter { id: u64, reply: oneshot::Sender<Option<Upstream>> },
    /// To be counted.
    Counted { id: u64, status: Option<StatusCode>, took: Duration },
    /// To be forgotten.
    Left { id: u64 },
}

/// The process that serves now, as its predecessor sees it. Who waits for an answer waits until this
/// is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Successor {
    hears: Hears,
    says: Says,
    asks: mpsc::UnboundedReceiver<Ask>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Option<Upstream>>>>,
}

/// How it went with a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum SuccessorEnded {
    /// It is gone.
    Gone,
    /// It ends, and has said so.
    Ending,
}

impl Successor {
    pub(super) fn new(peer: Peer, asks: mpsc::UnboundedReceiver<Ask>) -> Self {
        let Peer { hears, says } = peer;
        Self { hears, says, asks, waiting: Mutex::default() }
    }

    /// Carries what is asked and answered, until the other ends. Then it may be called again.
    pub(in crate::proxy) async fn attend(&mut self) -> SuccessorEnded {
        let Self { hears, says, asks, waiting } = self;
        let waiting = &*waiting;
        let asking = async {
            while let Some(ask) = asks.recv().await {
                let message = match ask {
                    Ask::Enter { id, reply } => {
                        lock(waiting).insert(id, reply);
                        FromPredecessor::Enter { id }
                    }
                    Ask::Counted { id, status, took } => FromPredecessor::Counted {
                        id,
                        status: status.map(|status| status.as_u16()),
                        micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    },
                    Ask::Left { id } => FromPredecessor::Left { id },
                };
                says.say(&message).await?;
            }
            Ok::<_, io::Error>(SuccessorEnded::Gone)
        };
        let hearing = async {
            loop {
                match hears.next().await? {
                    Some(FromSuccessor::Entered { id, upstream }) => {
                        if let Some(reply) = lock(waiting).remove(&id) {
                            // Whoever has hung up says so.
                            let _ = reply.send(upstream);
                        }
                    }
                    Some(FromSuccessor::Ending {}) => return Ok(SuccessorEnded::Ending),
                    Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                    None => return Ok(SuccessorEnded::Gone),
                }
            }
        };
        let ended = tokio::select! {
            ended = asking => ended,
            ended = hearing => ended,
        };
        ended.unwrap_or_else(|error| {
            tracing::warn!(target: "ops", %error, "the successor cannot be spoken with");
            SuccessorEnded::Gone
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the process whose place this one has taken, until it has no more requests. Ends when it
/// has; its requests are counted until then.
pub(in crate::proxy) async fn serve_predecessor(
    peer: Peer,
    mut tickets: HashMap<u64, Ticket>,
    routes: Arc<Routes>,
    ending: CancellationToken,
) {
    let Peer { mut hears, mut says } = peer;
    // Each answer is asked for by a request that waits for it: they bound this queue.
    let (answers, mut to_say) = mpsc::unbounded_channel();
    let hearing = async {
        while let Some(message) = hears.next().await? {
            match message {
                FromPredecessor::Enter { id } => {
                    let ticket = routes.enter().await;
                    let upstream = ticket.as_ref().map(|ticket| ticket.upstream.clone());
                    tickets.extend(ticket.map(|ticket| (id, ticket)));
                    let _ = answers.send(FromSuccessor::Entered { id, upstream });
                }
                FromPredecessor::Counted { id, status, micros } => {
                    if let Some(ticket) = tickets.get(&id) {
                        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
                        ticket.count(status, Duration::from_micros(micros));
                    }
                }
                FromPredecessor::Left { id } => drop(tickets.remove(&id)),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok::<_, io::Error>(())
    };
    let saying = async {
        let mut told = false;
        loop {
            tokio::select! {
                Some(answer) = to_say.recv() => says.say(&answer).await?,
                () = ending.cancelled(), if !told => {
                    told = true;
                    says.say(&FromSuccessor::Ending {}).await?;
                }
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = hearing => ended,
        ended = saying => ended,
    };
    match ended {
        Ok(()) => tracing::info!(target: "ops", "the proxy before this one has ended"),
        Err(error) => {
            tracing::warn!(target: "ops", %error, "the proxy before this one cannot be spoken with");
        }
    }
}
