//! One request: from the client to the instance that the pointer names, and its answer back.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::headers::{add_forwarded, join_cookies, remove_hop_by_hop};
use super::heard::Heard;
use super::routes::{Routes, Ticket};
use super::{ProxyConfig, tunnel};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// How long an idle connection to an instance is kept: less than what servers commonly allow.
const POOL_IDLE: Duration = Duration::from_secs(4);
const POOL_SIZE: usize = 256;

#[derive(Debug)]
pub(super) struct Forwarder {
    routes: Arc<Routes>,
    pooled: Client<HttpConnector, Answer>,
    fresh: Client<HttpConnector, Answer>,
    response_timeout: Duration,
    tunnel_idle: Duration,
    /// Connections and tunnels, to be waited for at the end.
    pub(super) tasks: TaskTracker,
    /// Ends them all.
    pub(super) cut: CancellationToken,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub address: IpAddr,
    /// Its place among the connections; a tunnel keeps it.
    pub seat: Arc<OwnedSemaphorePermit>,
}

/// A body that keeps its request counted until its last byte is gone.
struct Counted {
    body: Incoming,
    _ticket: Ticket,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Forwarder {
    pub(super) fn new(routes: Arc<Routes>, config: &ProxyConfig) -> Self {
        let client = |idle| {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(config.connect_timeout));
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(idle)
                .build(connector)
        };
        Self {
            routes,
            pooled: client(POOL_SIZE),
            fresh: client(0),
            response_timeout: config.response_timeout,
            tunnel_idle: config.tunnel_idle,
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Answers one request; what goes wrong is an answer too.
    pub(super) async fn forward(
        &self,
        mut request: Request<Incoming>,
        from: Asker,
    ) -> Response<Answer> {
        if request.method() == Method::CONNECT {
            return says(StatusCode::NOT_IMPLEMENTED, "this proxy opens no tunnels\n");
        }
        if !names_one_host(&request) {
            return says(StatusCode::BAD_REQUEST, "a request names its host once\n");
        }
        let Some(ticket) = self.routes.enter().await else {
            return says(StatusCode::SERVICE_UNAVAILABLE, "no version is in service\n");
        };
        let wish = tunnel::is_wanted(&request).then(|| hyper::upgrade::on(&mut request));
        let (begun, heard) = (Instant::now(), Heard::now());
        let answer = tokio::select! {
            answer = self.send(request, wish.is_some(), from.address, &ticket, &heard) => answer,
            () = heard.silent_for(self.response_timeout) => Err(Failure::Silent),
        };
        let answer = answer.and_then(|answer| match (answer.status().is_informational(), &wish) {
            (true, Some(_)) if tunnel::is_agreed(answer.headers()) => Ok(answer),
            // It was not asked for.
            (true, _) => Err(Failure::Protocol),
            (false, _) => Ok(answer),
        });
        let status = answer.as_ref().ok().map(Response::status);
        if !matches!(answer, Err(Failure::Unusable)) {
            ticket.count(status, begun.elapsed());
        }
        match (answer, wish) {
            (Ok(answer), Some(client)) if answer.status().is_informational() => {
                self.open_tunnel(answer, client, ticket, from)
            }
            (Ok(answer), _) => {
                let (mut parts, body) = answer.into_parts();
                remove_hop_by_hop(&mut parts.headers);
                parts.version = Version::HTTP_11;
                Response::from_parts(parts, Counted { body, _ticket: ticket }.boxed_unsync())
            }
            (Err(failure), _) => failure.answer(&ticket),
        }
    }

    /// Agrees to another protocol, and carries its bytes from then on.
    fn open_tunnel(
        &self,
        mut answer: Response<Incoming>,
        client: OnUpgrade,
        ticket: Ticket,
        from: Asker,
    ) -> Response<Answer> {
        let service = hyper::upgrade::on(&mut answer);
        let (idle, cut) = (self.tunnel_idle, self.cut.clone());
        self.tasks.spawn(async move {
            // Until it ends the instance is not drained, and the client has its seat.
            let _held = (ticket, from.seat);
            cut.run_until_cancelled(tunnel::carry(client, service, idle)).await;
        });
        let (mut parts, _) = answer.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        tunnel::say(&mut parts.headers);
        Response::from_parts(parts, nothing())
    }

    async fn send(
        &self,
        request: Request<Incoming>,
        wants_tunnel: bool,
        from: IpAddr,
        ticket: &Ticket,
        heard: &Heard,
    ) -> Result<Response<Incoming>, Failure> {
        let (mut parts, body) = request.into_parts();
        // RFC 9112, section 3.2.2: the target of a request decides, where it names a host.
        if let Some(named) = parts.uri.authority() {
            let host = HeaderValue::from_str(named.as_str()).map_err(|_| Failure::Unusable)?;
            parts.headers.insert(HOST, host);
        }
        parts.uri = target(&parts.uri, ticket.upstream.address).ok_or(Failure::Unusable)?;
        parts.version = Version::HTTP_11;
        join_cookies(&mut parts.headers);
        remove_hop_by_hop(&mut parts.headers);
        add_forwarded(&mut parts.headers, from);
        if wants_tunnel {
            tunnel::say(&mut parts.headers);
            let request = Request::from_parts(parts, nothing());
            return self.fresh.request(request).await.map_err(Failure::Upstream);
        }

        // An instance may close an idle connection in the moment in which a request is put on it.
        // Asking again is safe where the request changes nothing and has no body that is gone.
        let again = (matches!(parts.method, Method::GET | Method::HEAD) && body.is_end_stream())
            .then(|| Request::from_parts(parts.clone(), nothing()));
        let heard = heard.clone();
        let body = body.map_frame(move |frame| {
            heard.again();
            frame
        });
        let body = body.map_err(Into::into).boxed_unsync();
        match self.pooled.request(Request::from_parts(parts, body)).await {
            Err(error)
                if closed_early(&error)
                    && let Some(again) = again =>
            {
                self.fresh.request(again).await.map_err(Failure::Upstream)
            }
            answer => answer.map_err(Failure::Upstream),
        }
    }
}

enum Failure {
    Unusable,
    Silent,
    Protocol,
    Upstream(ClientError),
}

impl Failure {
    fn answer(self, ticket: &Ticket) -> Response<Answer> {
        match self {
            Self::Unusable => says(StatusCode::BAD_REQUEST, "no such target\n"),
            Self::Upstream(error) => {
                let instance = &ticket.upstream.instance;
                tracing::warn!(target: "ops", instance, error = %chain(&error), "no answer from upstream");
                says(StatusCode::BAD_GATEWAY, "the version in service does not answer\n")
            }
            Self::Protocol => {
                says(StatusCode::BAD_GATEWAY, "the version in service changes the protocol\n")
            }
            Self::Silent => {
                says(StatusCode::GATEWAY_TIMEOUT, "the version in service takes too long\n")
            }
        }
    }
}

/// Whether the connection ended before any byte of the answer came.
fn closed_early(error: &ClientError) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return true;
            }
        } else if let Some(error) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind as K;
            return matches!(
                error.kind(),
                K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted
            );
        }
        cause = error.source();
    }
    false
}

fn chain(error: &ClientError) -> String {
    ops_core::error::chain(error).join(": ")
}

/// RFC 9112, section 3.2: without a host, or with two, this proxy and the service could mean
/// different ones.
fn names_one_host(request: &Request<Incoming>) -> bool {
    match request.headers().get_all(HOST).iter().count() {
        1 => true,
        0 => request.version() < Version::HTTP_11 || request.uri().authority().is_some(),
        _ => false,
    }
}

fn target(uri: &Uri, address: SocketAddr) -> Option<Uri> {
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(address.to_string().parse::<Authority>().ok()?);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn nothing() -> Answer {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn says(status: StatusCode, text: impl Into<Bytes>) -> Response<Answer> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
