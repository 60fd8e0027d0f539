//! The side of the process that takes a place.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::timeout;

use super::lock::{FolderLock, ServingLock};
use super::messages::{FromPredecessor, FromSuccessor, SCHEMA};
use super::wire::{FILES, Peer, hear_with, say};
use super::{DEATH_WAIT, SOCKET, Sockets, WORD_WAIT};
use crate::error::{Error, ErrorKind};
use crate::proxy::tally::Tally;
use crate::traffic::Upstream;

/// How it went with the proxy of a folder.
#[derive(Debug)]
pub(in crate::proxy) enum Took {
    /// Its place.
    Place(Box<Taken>),
    /// Nothing: none runs there.
    NoneRuns,
    /// Nothing: it has died, maybe this moment, and what it had is free soon; or another one that it
    /// took the place of serves again.
    HasDied,
}

/// What was taken over. Whoever has it serves, and nobody else does.
#[derive(Debug)]
pub(in crate::proxy) struct Taken {
    pub sockets: Sockets,
    /// Where the predecessor listened, if that is another address.
    pub former: Option<TcpListener>,
    pub address: SocketAddr,
    pub serving: ServingLock,
    pub under_way: Vec<(u64, Upstream)>,
    pub tallies: Vec<(Upstream, Tally)>,
    /// Unless it has died.
    pub predecessor: Option<Predecessor>,
}

/// The process whose place was taken. It waits to hear that it was; where this is dropped before, it
/// takes the place back.
#[derive(Debug)]
pub(in crate::proxy) struct Predecessor(Peer);

impl Predecessor {
    /// Tells it that this process serves.
    pub(in crate::proxy) async fn hear_that_this_serves(mut self) -> io::Result<Peer> {
        self.0.says.say(&FromSuccessor::Serving {}).await?;
        Ok(self.0)
    }
}

fn lost(folder: &Path, why: &str) -> Error {
    let text = format!("the proxy on `{}` did not give its place: {why}", folder.display());
    Error::new(ErrorKind::Proxy, text)
        .remedy("it serves on; its log says what it saw, then try again")
}

/// Takes the place of the proxy that runs on a folder.
pub(in crate::proxy) async fn take(folder: &Path, listen: SocketAddr) -> Result<Took, Error> {
    let path = folder.join(SOCKET);
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => return Ok(Took::NoneRuns),
            io::ErrorKind::ConnectionRefused => return Ok(Took::HasDied),
            _ => return Err(lost(folder, "it cannot be spoken with").caused_by(error)),
        },
    };
    let hello = FromSuccessor::Hello { schema: SCHEMA, pid: std::process::id() };
    let asked = async {
        say(&mut stream, &hello).await?;
        timeout(WORD_WAIT, hear_with(&stream)).await.map_err(|_| io::ErrorKind::TimedOut)?
    };
    let (offer, files) = match asked.await {
        Ok(offered) => offered,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(lost(folder, "it does not answer").caused_by(error));
        }
        Err(_) => return Ok(Took::HasDied),
    };
    let FromPredecessor::Offer { address, pid, .. } = offer else {
        return Err(lost(folder, "it offers something else"));
    };
    tracing::info!(target: "ops", pid, %address, "the proxy that runs gives its place");
    ops_core::fault::point("proxy: the successor has the sockets");
    let (sockets, former, address) = inherit(files, address, listen).await?;
    let serving = ServingLock::open(folder)?;
    let mut peer = Peer::new(stream);
    let said = peer.says.say(&FromSuccessor::Ready { listens: address }).await;
    ops_core::fault::point("proxy: the successor is ready");
    let heard = match said {
        Ok(()) => peer.hears.within(WORD_WAIT).await,
        Err(error) => Err(error),
    };
    let (under_way, tallies, predecessor) = match heard {
        Ok(FromPredecessor::Yours { under_way, answered }) => {
            let tallies = answered.into_iter().map(|known| (known.upstream, known.tally));
            (under_way, tallies.collect(), Some(Predecessor(peer)))
        }
        Ok(_) => return Err(lost(folder, "it says something else")),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(lost(folder, "it does not say when").caused_by(error));
        }
        // It has died: nobody serves, unless its lock is held.
        Err(_) => (Vec::new(), Vec::new(), None),
    };
    ops_core::fault::point("proxy: the place is the successor's");
    let wait = if predecessor.is_some() { Duration::ZERO } else { DEATH_WAIT };
    if !serving.take_within(wait).await {
        return Err(lost(folder, "it has taken it back"));
    }
    ops_core::fault::point("proxy: the successor has the lock");
    let taken = Taken { sockets, former, address, serving, under_way, tallies, predecessor };
    Ok(Took::Place(Box::new(taken)))
}

/// The sockets out of the open files, and one of its own where the address is to be another.
async fn inherit(
    files: Vec<OwnedFd>,
    old: SocketAddr,
    listen: SocketAddr,
) -> Result<(Sockets, Option<TcpListener>, SocketAddr), Error> {
    let broken = |error: io::Error| {
        Error::new(ErrorKind::Proxy, "the sockets of the proxy that runs cannot be used")
            .remedy("it serves on; stop it, then start this one")
            .caused_by(error)
    };
    let files: [OwnedFd; FILES] =
        files.try_into().map_err(|_| broken(io::ErrorKind::InvalidData.into()))?;
    let [public, admin, next, folder] = files;
    let public = std::net::TcpListener::from(public);
    public.set_nonblocking(true).map_err(broken)?;
    let public = TcpListener::from_std(public).map_err(broken)?;
    let unix = |fd: OwnedFd| {
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let (admin, next) = (unix(admin).map_err(broken)?, unix(next).map_err(broken)?);
    let admin = Arc::new(admin);
    let folder = FolderLock::received(folder);
    let same = listen == old || (listen.port() == 0 && listen.ip() == old.ip());
    if same {
        return Ok((Sockets { public, admin, next, folder }, None, old));
    }
    let taken = |error| crate::proxy::server::cannot_listen(listen, error);
    let own = TcpListener::bind(listen).await.map_err(taken)?;
    let address = own.local_addr().map_err(taken)?;
    Ok((Sockets { public: own, admin, next, folder }, Some(public), address))
}
