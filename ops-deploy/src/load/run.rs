//! A load that runs, on a thread of its own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Load;
use super::connection::Connection;
use super::figures::Figures;
use super::session::session;
use crate::error::{Error, ErrorKind};

/// A client that is further behind than this does not make up for it.
const BEHIND: Duration = Duration::from_millis(200);
/// Whoever is refused does not ask again at once.
const AFTER_FAILURE: Duration = Duration::from_millis(5);

/// A load that runs. Dropping it ends it, too.
#[derive(Debug)]
#[must_use = "it asks until it is dropped"]
pub struct LoadRun {
    figures: Arc<Mutex<Figures>>,
    end: CancellationToken,
    begun: std::time::Instant,
    thread: Option<JoinHandle<()>>,
}

impl LoadRun {
    pub(super) fn start(load: Load) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Io, "the load has no thread of its own").caused_by(error)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (figures, end): (Arc<Mutex<Figures>>, _) = (Arc::default(), CancellationToken::new());
        let clients = clients(load, &figures, &end);
        let run = move || runtime.block_on(clients);
        let thread =
            std::thread::Builder::new().name("load".to_owned()).spawn(run).map_err(failed)?;
        let begun = std::time::Instant::now();
        Ok(Self { figures, end, begun, thread: Some(thread) })
    }

    /// What was asked until now.
    pub fn so_far(&self) -> Figures {
        let mut figures = lock(&self.figures).clone();
        figures.lasted = self.begun.elapsed();
        figures
    }

    /// Waits until what is asked is answered, and asks no more. Blocks no longer than the
    /// [`patience`](Load::patience).
    pub fn stop(mut self) -> Figures {
        let lasted = self.begun.elapsed();
        self.end();
        let mut figures = lock(&self.figures).clone();
        figures.lasted = lasted;
        figures
    }

    fn end(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // Its clients do not panic; if they did, what they have counted stands.
            drop(thread.join());
        }
    }
}

impl Drop for LoadRun {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(figures: &Mutex<Figures>) -> std::sync::MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all clients have in common.
#[derive(Debug)]
struct Clients {
    load: Load,
    figures: Arc<Mutex<Figures>>,
    end: CancellationToken,
    begun: Instant,
}

fn clients(
    load: Load,
    figures: &Arc<Mutex<Figures>>,
    end: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let (figures, end) = (Arc::clone(figures), end.clone());
    async move {
        let most = load.most;
        let clients = Arc::new(Clients { load, figures, end, begun: Instant::now() });
        let mut tasks = JoinSet::new();
        let load = &clients.load;
        let quick = u32::try_from(load.fresh + load.kept).unwrap_or(u32::MAX);
        let between = load.rate.map(|rate| Duration::from_secs(1) * quick / rate);
        let pace = |n: usize| Pace {
            next: clients.begun + between.unwrap_or_default().mul_f64(n as f64 / f64::from(quick)),
            between,
        };
        for n in 0..load.fresh {
            tasks.spawn(Arc::clone(&clients).ask("fresh", pace(n)));
        }
        for n in 0..load.kept {
            tasks.spawn(Arc::clone(&clients).ask("kept", pace(load.fresh + n)));
        }
        for _ in 0..load.slow {
            tasks.spawn(Arc::clone(&clients).ask("slow", Pace { between: None, ..pace(0) }));
        }
        for _ in 0..load.sockets {
            tasks.spawn(Arc::clone(&clients).talk());
        }
        tokio::select! {
            () = async { while tasks.join_next().await.is_some() {} } => {}
            () = tokio::time::sleep(most) => clients.end.cancel(),
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// When a client asks.
#[derive(Debug, Clone, Copy)]
struct Pace {
    next: Instant,
    between: Option<Duration>,
}

impl Pace {
    async fn keep(&mut self) {
        let Some(between) = self.between else { return };
        sleep_until(self.next).await;
        self.next = (self.next + between).max(Instant::now() - BEHIND);
    }
}

impl Clients {
    async fn ask(self: Arc<Self>, kind: &'static str, mut pace: Pace) {
        let mut kept: Option<Connection> = None;
        let path = if kind == "slow" { &self.load.slow_path } else { &self.load.path };
        while !self.end.is_cancelled() {
            pace.keep().await;
            let begun = Instant::now();
            let asked = async {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => Connection::open(self.load.address).await?,
                };
                let answer = connection.ask(path, kind != "fresh").await?;
                Ok::<_, io::Error>((connection, answer))
            };
            match timeout(self.load.patience, asked).await {
                Ok(Ok((connection, answer))) if answer.status == 200 => {
                    if kind != "fresh" && answer.stays {
                        kept = Some(connection);
                    }
                    let mut figures = lock(&self.figures);
                    figures.answered(kind, answer.version);
                    if kind != "slow" {
                        figures.took(begun.elapsed());
                    }
                }
                Ok(Ok((_, answer))) => {
                    self.missed(kind, &format!("the status is {}", answer.status)).await;
                }
                Ok(Err(error)) => self.missed(kind, &error.to_string()).await,
                Err(_) => self.missed(kind, "no answer in time").await,
            }
        }
    }

    async fn talk(self: Arc<Self>) {
        while !self.end.is_cancelled() {
            let talk = session(self.load.address, &self.load.socket_path);
            match timeout(self.load.patience, talk).await {
                Ok(Ok(version)) => lock(&self.figures).answered("sockets", version),
                Ok(Err(error)) => self.missed("sockets", &error.to_string()).await,
                Err(_) => self.missed("sockets", "no answer in time").await,
            }
        }
    }

    async fn missed(&self, kind: &'static str, why: &str) {
        lock(&self.figures).missed(kind, self.begun.elapsed(), why);
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}
