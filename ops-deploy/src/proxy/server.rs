//! The process: sockets, connections, and their end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ProxyConfig;
use super::admin::{self, Admin};
use super::connection::{self, Ends};
use super::forward::{Asker, Forwarder};
use super::handover::{
    self, Applicant, DEATH_WAIT, Decision, FolderLock, Predecessor, ServingLock, Sockets,
    Successor, SuccessorEnded, Taken, Took, next_applicant,
};
use super::pointer_file::PointerFile;
use super::routes::{Routes, Ticket};
use crate::error::{Error, ErrorKind};

/// How long a successor that listens elsewhere answers also where its predecessor did.
const FORMER_ADDRESS: Duration = Duration::from_secs(5);
/// No pointer takes so long to get its name.
const LEFT_BEHIND: Duration = Duration::from_mins(1);
/// How long until a place is tried again that is not free yet.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a process stays ready to serve again, even with nothing left to answer.
const PROBATION: Duration = Duration::from_secs(2);

/// A proxy whose sockets are open.
#[derive(Debug)]
#[must_use = "a proxy answers nothing until it serves"]
pub struct ReverseProxy {
    config: ProxyConfig,
    sockets: Sockets,
    former: Option<TcpListener>,
    address: SocketAddr,
    routes: Arc<Routes>,
    serving: ServingLock,
    predecessor: Option<(Predecessor, HashMap<u64, Ticket>)>,
}

/// Runs a proxy until the token is cancelled and its requests are answered, or until another one has
/// taken its place.
///
/// # Errors
/// See [`ReverseProxy::bind`].
pub async fn serve(config: ProxyConfig, shutdown: CancellationToken) -> Result<(), Error> {
    ReverseProxy::bind(config).await?.serve(shutdown).await;
    Ok(())
}

pub(super) fn cannot_listen(address: SocketAddr, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot listen on {address}"))
        .remedy("free the address, or configure another one")
        .caused_by(source)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|join| Error::new(ErrorKind::Io, "reading the pointer panicked").caused_by(join))?
}

impl ReverseProxy {
    /// Opens the sockets and reads the pointer of the last run. The folder is created if needed.
    ///
    /// # Errors
    /// If another proxy has the folder, an address is taken, or the pointer was written by a newer
    /// proxy.
    pub async fn bind(config: ProxyConfig) -> Result<Self, Error> {
        let path = config.state_dir.clone();
        let (folder, serving, routes) = blocking(move || {
            let (folder, serving) = (FolderLock::take(&path)?, ServingLock::open(&path)?);
            // Half a pointer that a dead proxy left is nobody's; if it stays, it only takes room.
            let _ = ops_core::fs::sweep_temporaries(&path, LEFT_BEHIND);
            Ok((folder, serving, Routes::new(PointerFile::in_folder(&path))?))
        })
        .await?;
        // Whoever holds it without the folder is about to end.
        if !serving.take_within(DEATH_WAIT).await {
            let text = format!("another proxy serves on `{}`", config.state_dir.display());
            return Err(Error::new(ErrorKind::Proxy, text).remedy("stop the other"));
        }
        let taken = |source| cannot_listen(config.listen, source);
        let public = TcpListener::bind(config.listen).await.map_err(taken)?;
        let address = public.local_addr().map_err(taken)?;
        let path = config.state_dir.clone();
        let (next, admin) = blocking(move || {
            let next = admin::listen(&path, handover::SOCKET)?;
            Ok((next, admin::listen(&path, admin::SOCKET)?))
        })
        .await?;
        let sockets = Sockets { public, admin: Arc::new(admin), next, folder };
        let routes = Arc::new(routes);
        Ok(Self { config, sockets, former: None, address, routes, serving, predecessor: None })
    }

    /// Takes the place of the proxy that runs on the folder, without a request refused or cut off:
    /// its listening sockets, its pointer and its counts. Where none runs, the same as
    /// [`bind`](Self::bind); where one has died, what it had may take up to 5 s to be free.
    ///
    /// The other one serves until this one can, and goes on if this one fails or dies before
    /// [`serve`](Self::serve); it also takes its place back if this one is killed while requests of
    /// its own are still under way. It answers what it is still asked on its connections, each of
    /// which it closes with its next answer; [`ProxyConfig::handover_grace`] bounds that.
    ///
    /// With another address in the configuration, this one listens there, and for 5 s more also at
    /// the former one.
    ///
    /// # Errors
    /// As for `bind`, and [`ErrorKind::Proxy`] if the other one does not give its place within some
    /// seconds; it serves on then.
    pub async fn take_over(config: ProxyConfig) -> Result<Self, Error> {
        let path = config.state_dir.clone();
        // What cannot be read is found before anything is asked of the other.
        let read = move || PointerFile::in_folder(&path).read().map(drop);
        blocking(read).await?;
        let until = Instant::now() + DEATH_WAIT;
        loop {
            let bound = match handover::take(&config.state_dir, config.listen).await? {
                Took::Place(taken) => return Self::in_place(*taken, config).await,
                Took::NoneRuns => return Self::bind(config).await,
                Took::HasDied => Self::bind(config.clone()).await,
            };
            if bound.is_ok() || Instant::now() >= until {
                return bound;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Goes on where the one before was.
    async fn in_place(taken: Taken, config: ProxyConfig) -> Result<Self, Error> {
        let Taken { sockets, former, address, serving, under_way, tallies, predecessor } = taken;
        let path = config.state_dir.clone();
        let routes = blocking(move || Routes::new(PointerFile::in_folder(&path))).await?;
        routes.go_on_from(tallies);
        let routes = Arc::new(routes);
        let tickets = under_way.into_iter().map(|(id, upstream)| (id, routes.adopt(upstream)));
        let tickets = tickets.collect();
        let predecessor = predecessor.map(|predecessor| (predecessor, tickets));
        Ok(Self { config, sockets, former, address, routes, serving, predecessor })
    }

    /// Where it listens for the public.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the token is cancelled; then lets those under way end, for at most
    /// [`ProxyConfig::shutdown_grace`]. Ends also when another process has [taken its
    /// place](Self::take_over) and it has nothing left to answer. Dropping the future stops
    /// accepting, and lets nobody move the pointer any more.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { config, sockets, former, address, routes, serving, predecessor } = self;
        let shutdown = shutdown.child_token();
        let forwarder = Arc::new(Forwarder::new(Arc::clone(&routes), &config));
        let room = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        let door = Door {
            leaving: CancellationToken::new(),
            shutdown: shutdown.clone(),
            former: former.map(|listener| (listener, Instant::now() + FORMER_ADDRESS)),
            patience: config.client_timeout,
            room,
            forwarder: Arc::clone(&forwarder),
        };
        let _gone = Gone { routes: Arc::clone(&routes), shutdown: shutdown.clone() };
        let house = House { config, address, sockets, routes, serving, forwarder, shutdown };
        if let Some((predecessor, tickets)) = predecessor {
            house.follow(predecessor, tickets).await;
        }
        house.live(door).await;
    }
}

/// Whoever drops the future of a proxy wants nothing of it any more.
struct Gone {
    routes: Arc<Routes>,
    shutdown: CancellationToken,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.routes.close();
        self.shutdown.cancel();
    }
}

/// Where connections come in.
#[derive(Debug)]
struct Door {
    leaving: CancellationToken,
    shutdown: CancellationToken,
    former: Option<(TcpListener, Instant)>,
    patience: Duration,
    room: Arc<Semaphore>,
    forwarder: Arc<Forwarder>,
}

impl Door {
    /// Accepts for ever. Dropping the future loses no connection.
    async fn accept(&mut self, public: &TcpListener) {
        loop {
            let Ok(seat) = Arc::clone(&self.room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = public.accept() => accepted,
                accepted = at_former(&mut self.former) => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.welcome(stream, client, seat),
                Err(error) => {
                    // No more file descriptors, say: they come back when connections end.
                    tracing::warn!(target: "ops", %error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, client: SocketAddr, seat: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let asker = Asker { address: client.ip(), seat: Arc::new(seat) };
        let ends = Ends { leaving: self.leaving.clone(), shutdown: self.shutdown.clone() };
        let served =
            connection::serve(stream, asker, Arc::clone(&self.forwarder), self.patience, ends);
        let cut = self.forwarder.cut.clone();
        self.forwarder.tasks.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(served).await {
                tracing::debug!(target: "ops", %client, %error, "connection ended");
            }
        });
    }
}

/// The next connection at the address of before, while that is listened to.
async fn at_former(
    former: &mut Option<(TcpListener, Instant)>,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    if let Some((listener, until)) = former {
        tokio::select! {
            biased;
            accepted = listener.accept() => return accepted,
            () = sleep_until(*until) => *former = None,
        }
    }
    std::future::pending().await
}

/// What a process has, whoever serves.
#[derive(Debug)]
struct House {
    config: ProxyConfig,
    address: SocketAddr,
    sockets: Sockets,
    routes: Arc<Routes>,
    serving: ServingLock,
    forwarder: Arc<Forwarder>,
    shutdown: CancellationToken,
}

impl House {
    /// Tells the process before that this one serves, and answers it as long as it asks.
    async fn follow(&self, predecessor: Predecessor, tickets: HashMap<u64, Ticket>) {
        ops_core::fault::point("proxy: the successor begins");
        match predecessor.hear_that_this_serves().await {
            Ok(peer) => {
                ops_core::fault::point("proxy: the successor has said so");
                let (routes, ending) = (Arc::clone(&self.routes), self.shutdown.clone());
                let cut = self.forwarder.cut.clone();
                self.forwarder.tasks.spawn(async move {
                    let served = handover::serve_predecessor(peer, tickets, routes, ending);
                    cut.run_until_cancelled(served).await;
                });
            }
            // It has died. The lock is here, so nobody else serves.
            Err(error) => {
                tracing::warn!(target: "ops", %error, "the proxy before this one has gone");
            }
        }
    }

    async fn live(mut self, mut door: Door) {
        let admin = Arc::new(Admin::new(
            &self.config.state_dir,
            Arc::clone(&self.sockets.admin),
            self.address,
            Arc::clone(&self.routes),
        ));
        let successor = loop {
            let epoch = self.routes.pointer().epoch;
            tracing::info!(target: "ops", address = %self.address, epoch, "proxy serves");
            let admin_ends = self.shutdown.child_token();
            let admin = tokio::spawn(Arc::clone(&admin).serve(admin_ends.clone()));
            let applied = tokio::select! {
                () = self.shutdown.cancelled() => None,
                () = door.accept(&self.sockets.public) => None,
                applicant = next_applicant(&self.sockets, self.address) => Some(applicant),
            };
            admin_ends.cancel();
            let _ = admin.await;
            let Some(applicant) = applied else { break None };
            match self.give_place(applicant, &door.leaving).await {
                Stay::On => door.leaving = CancellationToken::new(),
                Stay::Over => return,
                Stay::Ending(successor) => break successor,
            }
        };
        drop((admin, door));
        self.end(successor).await;
    }

    /// Lets another process serve, and answers what this one is still asked.
    async fn give_place(&mut self, applicant: Applicant, leaving: &CancellationToken) -> Stay {
        let given = handover::give(applicant, &self.routes, &self.serving).await;
        let Decision::Given(mut successor) = given else { return Stay::On };
        leaving.cancel();
        let tasks = &self.forwarder.tasks;
        tasks.close();
        let at_least = Instant::now() + PROBATION;
        let answered = async {
            tasks.wait().await;
            sleep_until(at_least).await;
        };
        let ended = tokio::select! {
            () = answered => return Stay::Over,
            () = tokio::time::sleep(self.config.handover_grace.max(PROBATION)) => {
                tracing::warn!(target: "ops", "requests were cut off: another process has long taken the place of this one");
                self.forwarder.cut.cancel();
                tasks.wait().await;
                return Stay::Over;
            }
            () = self.shutdown.cancelled() => return Stay::Ending(Some(successor)),
            ended = successor.attend() => ended,
        };
        tasks.reopen();
        match ended {
            SuccessorEnded::Ending => Stay::Ending(Some(successor)),
            SuccessorEnded::Gone => {
                let again = self.serving.take_within(DEATH_WAIT).await;
                handover::come_back(&self.routes).await;
                if again {
                    tracing::warn!(target: "ops", "the successor has died; this process serves on");
                    return Stay::On;
                }
                // It had a successor of its own, which knows nothing of this process.
                Stay::Ending(None)
            }
        }
    }

    /// Answers what was asked, within the grace.
    async fn end(self, successor: Option<Successor>) {
        let Self { config, sockets, forwarder, routes, shutdown, .. } = self;
        // From here on nobody is let in, and the folder is free for another proxy.
        drop(sockets);
        shutdown.cancel();
        let attending = async {
            if let Some(mut successor) = successor {
                while successor.attend().await == SuccessorEnded::Ending {}
                handover::come_back(&routes).await;
                drop(successor);
            }
            std::future::pending::<()>().await;
        };
        forwarder.tasks.close();
        let ended = tokio::select! {
            ended = timeout(config.shutdown_grace, forwarder.tasks.wait()) => ended,
            () = attending => Ok(()),
        };
        if ended.is_err() {
            tracing::warn!(target: "ops", "requests were cut off by the end of the proxy");
            forwarder.cut.cancel();
            forwarder.tasks.wait().await;
        }
    }
}

/// How a process goes on that has let another one try.
#[derive(Debug)]
enum Stay {
    /// It serves.
    On,
    /// It has answered everything.
    Over,
    /// It has to end as when it is told to.
    Ending(Option<Successor>),
}
