//! The deployer's side of the admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::admin::{DrainRequest, InFlight, ProxyStatus, Refused, SwitchRequest, socket_path};
use super::tally::Tally;
use crate::error::{Error, ErrorKind};
use crate::traffic::{Pointer, TrafficSwitch, Upstream, conflict};

const ANSWER_CAP: usize = 4 * 1024 * 1024;

/// Talks to the proxy whose state lies in a folder.
#[derive(Debug, Clone)]
pub struct ProxyClient {
    socket: PathBuf,
    deadline: Duration,
}

impl ProxyClient {
    /// The client of the proxy with this [`state_dir`](super::ProxyConfig::state_dir).
    pub fn new(state_dir: impl AsRef<Path>) -> Self {
        Self { socket: socket_path(state_dir.as_ref()), deadline: Duration::from_secs(5) }
    }

    /// How long one call may take, besides the waiting that it asks for. Default: 5 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What the proxy says of itself.
    ///
    /// # Errors
    /// [`ErrorKind::Proxy`] if it does not answer.
    pub async fn status(&self) -> Result<ProxyStatus, Error> {
        self.ask(Method::GET, "/status", &(), Duration::ZERO).await.map_err(Failed::into_error)
    }

    /// Waits until an instance has answered its requests, for at most `wait` (the proxy caps it
    /// at 60 s); answers how many are still under way. It must be out of the traffic, or new ones
    /// come.
    ///
    /// # Errors
    /// [`ErrorKind::Proxy`] if the proxy does not answer.
    pub async fn drain(&self, upstream: &Upstream, wait: Duration) -> Result<u64, Error> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = DrainRequest { upstream: upstream.clone(), wait_ms };
        let answer: InFlight =
            self.ask(Method::POST, "/drain", &request, wait).await.map_err(Failed::into_error)?;
        Ok(answer.requests)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).expect("requests are made of JSON values");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "proxy")
            .body(Full::new(Bytes::from(body)))
            .expect("the parts are constants");
        let deadline = self.deadline.saturating_add(wait);
        let (status, body) = match tokio::time::timeout(deadline, self.send(request)).await {
            Ok(answered) => answered?,
            Err(_) => {
                return Err(Failed::Proxy(
                    self.silent(&format!("did not answer within {deadline:?}"))
                        .class_of(ops_core::Class::OutcomeUnknown),
                ));
            }
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| {
                Failed::Proxy(self.silent("answered what cannot be read").caused_by(error))
            });
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(Refused { pointer: Some(pointer), .. }) => Err(Failed::Conflict(pointer)),
            Ok(refused) => Err(Failed::Proxy(self.silent(&format!("refused: {}", refused.error)))),
            Err(_) => Err(Failed::Proxy(self.silent(&format!("answered {status}")))),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failed> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Failed::Proxy(
                self.silent("cannot be reached")
                    .remedy("start the proxy, or see that this user may open its socket")
                    .caused_by(error),
            )
        })?;
        let lost = |error: hyper::Error| {
            Failed::Proxy(
                self.silent("hung up").class_of(ops_core::Class::OutcomeUnknown).caused_by(error),
            )
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(lost)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_CAP).collect().await;
            let body = body.map_err(|error| {
                let unknown = ops_core::Class::OutcomeUnknown;
                Failed::Proxy(self.silent("hung up").class_of(unknown).caused_by(error))
            })?;
            Ok((status, body.to_bytes()))
        };
        // The connection lives as long as its one exchange: nothing is left behind on a task.
        let mut connection = std::pin::pin!(connection.fuse());
        let mut exchange = std::pin::pin!(exchange.fuse());
        loop {
            futures::select_biased! {
                answered = exchange => return answered,
                _ = connection => {}
            }
        }
    }

    fn silent(&self, what: &str) -> Error {
        Error::new(ErrorKind::Proxy, format!("the proxy at `{}` {what}", self.socket.display()))
    }
}

enum Failed {
    Proxy(Error),
    Conflict(Pointer),
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Self::Proxy(error) => error,
            Self::Conflict(pointer) => conflict(pointer.epoch, &pointer),
        }
    }
}

impl TrafficSwitch for ProxyClient {
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>> {
        async { Ok(self.status().await?.pointer) }.boxed()
    }

    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>> {
        async move {
            let request = SwitchRequest { expected_epoch, upstream: to.cloned() };
            match self.ask(Method::POST, "/switch", &request, Duration::ZERO).await {
                Err(Failed::Conflict(found)) => Err(conflict(expected_epoch, &found)),
                answered => answered.map_err(Failed::into_error),
            }
        }
        .boxed()
    }

    fn in_flight<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>> {
        self.drain(upstream, Duration::ZERO).boxed()
    }

    fn answered<'a>(
        &'a self,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Result<Option<Tally>, Error>> {
        async move {
            let answered = self.status().await?.answered.into_iter();
            let mut of_it = answered.filter(|known| known.upstream == *upstream);
            Ok(Some(of_it.next().map(|known| known.tally).unwrap_or_default()))
        }
        .boxed()
    }
}
