//! The side of the process whose place is taken.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::{Ask, Successor};
use super::lock::ServingLock;
use super::messages::{FromPredecessor, FromSuccessor, SCHEMA};
use super::wire::{Peer, hear_with, say_with};
use super::{DEATH_WAIT, SERVE_WAIT, Sockets, WORD_WAIT};
use crate::proxy::admin::Answered;
use crate::proxy::routes::Routes;

const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// A process that is ready to serve.
#[derive(Debug)]
pub(in crate::proxy) struct Applicant(Peer);

/// The next process that is ready to take the place; one after the other. Dropping the future sends
/// away whoever is not yet.
pub(in crate::proxy) async fn next_applicant(sockets: &Sockets, address: SocketAddr) -> Applicant {
    loop {
        let Ok((stream, _)) = sockets.next.accept().await else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        match prepare(stream, sockets, address).await {
            Ok(applicant) => return applicant,
            Err(error) => {
                tracing::warn!(target: "ops", %error, "a successor did not become ready; this process serves on");
            }
        }
    }
}

async fn prepare(
    stream: UnixStream,
    sockets: &Sockets,
    address: SocketAddr,
) -> std::io::Result<Applicant> {
    let hello = timeout(WORD_WAIT, hear_with(&stream));
    let (hello, _) = hello.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let FromSuccessor::Hello { schema, pid } = hello else {
        return Err(std::io::ErrorKind::InvalidData.into());
    };
    ops_core::fault::point("proxy: a successor has come");
    let Sockets { public, admin, next, folder } = sockets;
    let files = [public.as_fd(), admin.as_fd(), next.as_fd(), folder.as_fd()];
    let (schema, own) = (schema.min(SCHEMA), std::process::id());
    let offer = FromPredecessor::Offer { schema, pid: own, address };
    say_with(&stream, &offer, files).await?;
    ops_core::fault::point("proxy: the sockets were offered");
    let mut peer = Peer::new(stream);
    match peer.hears.within(WORD_WAIT).await? {
        FromSuccessor::Ready { listens } => {
            tracing::info!(target: "ops", pid, address = %listens, "a successor is ready");
            Ok(Applicant(peer))
        }
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// What became of a handover.
#[derive(Debug)]
pub(in crate::proxy) enum Decision {
    /// This process serves on.
    Kept,
    /// The other serves.
    Given(Successor),
}

/// Gives the place to an applicant, or keeps it. The caller accepts nothing meanwhile.
pub(in crate::proxy) async fn give(
    applicant: Applicant,
    routes: &Arc<Routes>,
    serving: &ServingLock,
) -> Decision {
    let Applicant(mut peer) = applicant;
    let _no_switch = routes.pause().await;
    ops_core::fault::point("proxy: nothing is accepted or switched");
    // One entry waits for each request under way at most, besides what is told of it.
    let (asked, asks) = mpsc::unbounded_channel::<Ask>();
    let (under_way, tallies) = routes.leave_to(asked);
    let answered =
        tallies.into_iter().map(|(upstream, tally)| Answered { upstream, tally }).collect();
    serving.free();
    ops_core::fault::point("proxy: the lock is free");
    let yours = FromPredecessor::Yours { under_way, answered };
    let heard = match peer.says.say(&yours).await {
        Ok(()) => {
            ops_core::fault::point("proxy: the place was given");
            peer.hears.within::<FromSuccessor>(SERVE_WAIT).await
        }
        Err(error) => Err(error),
    };
    let kept = match &heard {
        Ok(FromSuccessor::Serving {}) => false,
        // It hangs, and may have the lock or not: whoever has it serves.
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => serving.try_take(),
        // It has died, or gave up: its lock is free in a moment.
        Ok(_) | Err(_) => serving.take_within(DEATH_WAIT).await,
    };
    ops_core::fault::point("proxy: it is decided who serves");
    let successor = Successor::new(peer, asks);
    if kept {
        tracing::warn!(target: "ops", heard = ?heard, "the successor did not serve; this process serves on");
        come_back(routes).await;
        return Decision::Kept;
    }
    tracing::info!(target: "ops", "the successor serves; this process answers what it was asked");
    Decision::Given(successor)
}

/// Follows the pointer on disk again, and counts for itself.
pub(in crate::proxy) async fn come_back(routes: &Arc<Routes>) {
    if let Err(error) = routes.come_back().await {
        let error = ops_core::error::chain(&error).join(": ");
        tracing::warn!(target: "ops", error, "the pointer cannot be read; the traffic goes where it went");
    }
}
