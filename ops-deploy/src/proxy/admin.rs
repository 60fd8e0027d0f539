//! How deployers talk to the proxy: JSON over a unix socket that only its user can open.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::client::ProxyClient;
use super::forward::{Answer, says};
use super::routes::Routes;
use super::tally::Tally;
use crate::error::{Error, ErrorKind};
use crate::traffic::{Pointer, TrafficSwitch as _, Upstream};

const CONNECTIONS: usize = 32;
const BODY_CAP: usize = 64 * 1024;
const DRAIN_CAP: Duration = Duration::from_mins(1);
/// How long a request's body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(10);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// What a proxy says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProxyStatus {
    /// Its process.
    pub pid: u32,
    /// Where it listens for the public.
    pub address: SocketAddr,
    /// Where the traffic goes.
    pub pointer: Pointer,
    /// Who is answering requests now.
    pub in_flight: Vec<InFlight>,
    /// What the last instances have answered since the proxy started, sixteen at most.
    #[serde(default)]
    pub answered: Vec<Answered>,
}

/// What one instance has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The instance.
    pub upstream: Upstream,
    /// Its numbers.
    pub tally: Tally,
}

/// One instance that is answering requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The instance.
    pub upstream: Upstream,
    /// How many requests.
    pub requests: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SwitchRequest {
    pub expected_epoch: u64,
    pub upstream: Option<Upstream>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DrainRequest {
    pub upstream: Upstream,
    pub wait_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointer>,
}

/// Where a proxy hears deployers.
pub(super) const SOCKET: &str = "admin.sock";

pub(super) fn socket_path(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

#[derive(Debug)]
pub(super) struct Admin {
    listener: Arc<UnixListener>,
    public: SocketAddr,
    routes: Arc<Routes>,
    /// The way to who has taken the place of this process.
    elsewhere: ProxyClient,
}

/// Opens a socket for the user of this process only. The caller owns the folder, so what has its name
/// is a dead one's. Blocks.
pub(super) fn listen(folder: &Path, name: &str) -> Result<UnixListener, Error> {
    // It gets its name when nobody else can open it any more. No longer than the names it gets.
    let unnamed = folder.join("sock.new");
    match std::fs::remove_file(&unnamed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove the old socket", &unnamed, error));
        }
        _ => {}
    }
    let path = folder.join(name);
    let listener = UnixListener::bind(&unnamed).map_err(|error| {
        Error::io("listen on", &path, error).remedy(
            "the path of a unix socket has at most 107 bytes; give the proxy a shorter folder",
        )
    })?;
    std::fs::set_permissions(&unnamed, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Error::io("set the mode of", &unnamed, error))?;
    std::fs::rename(&unnamed, &path).map_err(|error| Error::io("make", &path, error))?;
    Ok(listener)
}

impl Admin {
    pub(super) fn new(
        folder: &Path,
        listener: Arc<UnixListener>,
        public: SocketAddr,
        routes: Arc<Routes>,
    ) -> Self {
        Self { listener, public, routes, elsewhere: ProxyClient::new(folder) }
    }

    /// Answers until the token is cancelled; what was asked by then is answered all the same.
    pub(super) async fn serve(self: Arc<Self>, shutdown: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let admin = self;
        loop {
            let accepted = async {
                let seat = Arc::clone(&room).acquire_owned().await;
                (admin.listener.accept().await, seat)
            };
            let Some((accepted, seat)) = shutdown.run_until_cancelled(accepted).await else {
                return;
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let serving = Arc::clone(&admin);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let admin = Arc::clone(&serving);
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(target: "ops", %error, "admin connection ended");
                }
                drop(seat);
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/status") if self.routes.has_left() => {
                match self.elsewhere.status().await {
                    Ok(status) => json(StatusCode::OK, &status),
                    Err(error) => refuse_with(&error),
                }
            }
            (&Method::GET, "/status") => json(StatusCode::OK, &self.status()),
            (&Method::POST, "/switch") => match read(body).await {
                Ok(SwitchRequest { expected_epoch, upstream }) => {
                    self.switch(expected_epoch, upstream).await
                }
                Err(refused) => refused,
            },
            (&Method::POST, "/drain") => match read(body).await {
                Ok(DrainRequest { upstream, wait_ms }) => {
                    self.drain(upstream, Duration::from_millis(wait_ms).min(DRAIN_CAP)).await
                }
                Err(refused) => refused,
            },
            (method, path) => refuse(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no `{method} {path}`; known are GET /status, POST /switch, POST /drain"
                ),
                None,
            ),
        }
    }

    fn status(&self) -> ProxyStatus {
        let in_flight = self.routes.all_in_flight().into_iter();
        let answered = self.routes.tallies().into_iter();
        ProxyStatus {
            pid: std::process::id(),
            address: self.public,
            pointer: self.routes.pointer(),
            in_flight: in_flight
                .map(|(upstream, requests)| InFlight { upstream, requests })
                .collect(),
            answered: answered.map(|(upstream, tally)| Answered { upstream, tally }).collect(),
        }
    }

    async fn switch(&self, expected_epoch: u64, to: Option<Upstream>) -> Response<Answer> {
        // On a task of its own: a deployer that hangs up must not leave a switch half done.
        let (routes, elsewhere) = (Arc::clone(&self.routes), self.elsewhere.clone());
        let switching = tokio::spawn(async move {
            match routes.switch(expected_epoch, to.as_ref()).await? {
                Some(pointer) => Ok(pointer),
                // It came before, and waited until another process had taken the place.
                None => elsewhere.switch(expected_epoch, to.as_ref()).await,
            }
        });
        match switching.await {
            Ok(Ok(pointer)) => json(StatusCode::OK, &pointer),
            Ok(Err(error)) if error.kind() == ErrorKind::Conflict => {
                let now = if self.routes.has_left() {
                    self.elsewhere.current().await
                } else {
                    Ok(self.routes.pointer())
                };
                match now {
                    Ok(now) => refuse(StatusCode::CONFLICT, error.to_string(), Some(now)),
                    Err(error) => refuse_with(&error),
                }
            }
            Ok(Err(error)) => refuse_with(&error),
            Err(join) => refuse(StatusCode::INTERNAL_SERVER_ERROR, join.to_string(), None),
        }
    }

    async fn drain(&self, upstream: Upstream, wait: Duration) -> Response<Answer> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let requests = self.routes.in_flight(&upstream);
            if requests == 0 || tokio::time::Instant::now() >= until {
                return json(StatusCode::OK, &InFlight { upstream, requests });
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

async fn read<T: for<'a> Deserialize<'a>>(body: Incoming) -> Result<T, Response<Answer>> {
    let bad = |text: String| refuse(StatusCode::BAD_REQUEST, text, None);
    let body = tokio::time::timeout(BODY_WAIT, Limited::new(body, BODY_CAP).collect())
        .await
        .map_err(|_| bad(format!("the body did not come within {BODY_WAIT:?}")))?
        .map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| bad(error.to_string()))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Answer> {
    let text = serde_json::to_vec(value).expect("answers are made of JSON values");
    says(status, Bytes::from(text))
}

fn refuse_with(error: &Error) -> Response<Answer> {
    let text = ops_core::error::chain(error).join(": ");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, text, None)
}

fn refuse(status: StatusCode, error: String, pointer: Option<Pointer>) -> Response<Answer> {
    json(status, &Refused { error, pointer })
}
