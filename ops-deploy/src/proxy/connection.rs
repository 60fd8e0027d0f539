//! One connection of a client: which protocol it speaks, and its end.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::forward::{Answer, Asker, Forwarder};
use super::heard::Heard;
use super::owed::Owed;
use super::paced::Paced;

/// What a client that knows beforehand that the other side speaks HTTP/2 says first (RFC 9113,
/// section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many requests one HTTP/2 connection may have under way.
const STREAMS: u32 = 128;
/// How large the headers of one HTTP/2 request may be.
const HEADERS: u32 = 64 * 1024;
/// How much of one answer waits for the client's socket.
const SEND_BUFFER: usize = 64 * 1024;

/// When connections end that their clients would keep.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    /// Another process takes new connections: with its next answer, and not in the moment in which
    /// the client may be about to ask.
    pub leaving: CancellationToken,
    /// The proxy ends: as soon as what was asked is answered.
    pub shutdown: CancellationToken,
}

/// Answers a client until it has gone, or the proxy ends.
pub(super) async fn serve(
    stream: TcpStream,
    asker: Asker,
    forwarder: Arc<Forwarder>,
    patience: Duration,
    ends: Ends,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut read, write) = stream.into_split();
    let first = ends.shutdown.run_until_cancelled(timeout(patience, first_bytes(&mut read)));
    // Nothing was asked yet, so nothing is lost.
    let Some(first) = first.await else { return Ok(()) };
    let first = first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let is_http2 = first.starts_with(PREFACE);
    let stream = join(Cursor::new(first).chain(read), write);
    let stream = TokioIo::new(Paced::new(stream, patience));
    if is_http2 {
        http2(stream, asker, forwarder, patience, ends).await
    } else {
        http1(stream, asker, forwarder, patience, ends).await
    }
}

/// As many bytes as tell the protocol.
async fn first_bytes(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        if read.read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    Ok(seen)
}

/// What answers each request of a connection, after it was counted. Where the client may leave an
/// answer untaken, that is watched; the second part is held while a request waits for its answer.
/// An answer is the last of its connection if the token is cancelled by then.
fn answers(
    asker: Asker,
    forwarder: Arc<Forwarder>,
    held: Option<(Owed, Arc<()>)>,
    count: impl Fn(),
    leaving: Option<CancellationToken>,
) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future: Send>
{
    service_fn(move |request| {
        count();
        let (forwarder, asker, held) = (Arc::clone(&forwarder), asker.clone(), held.clone());
        let leaving = leaving.clone();
        async move {
            let mut answer = forwarder.forward(request, asker).await;
            let is_last = leaving.is_some_and(|leaving| leaving.is_cancelled());
            if is_last && !answer.status().is_informational() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(match held {
                Some((owed, _)) => answer.map(|body| owed.watch(body)),
                None => answer,
            })
        }
    })
}

async fn either(one: &CancellationToken, other: &CancellationToken) {
    tokio::select! {
        () = one.cancelled() => {}
        () = other.cancelled() => {}
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: TokioIo<S>,
    asker: Asker,
    forwarder: Arc<Forwarder>,
    patience: Duration,
    Ends { leaving, shutdown }: Ends,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = answers(asker, forwarder, None, || {}, Some(leaving));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(stream, service)
            .with_upgrades()
    );
    tokio::select! {
        served = &mut connection => return Ok(served?),
        () = shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: TokioIo<S>,
    asker: Asker,
    forwarder: Arc<Forwarder>,
    patience: Duration,
    Ends { leaving, shutdown }: Ends,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (asked, owed, asking) = (Heard::now(), Owed::default(), Arc::new(()));
    let (each, held) = (asked.clone(), Some((owed.clone(), Arc::clone(&asking))));
    let service = answers(asker, forwarder, held, move || each.again(), None);
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(patience))
            .keep_alive_timeout(patience)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(stream, service)
    );
    let mut look = tokio::time::interval((patience / 4).max(Duration::from_millis(1)));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ends = false;
    loop {
        tokio::select! {
            served = &mut connection => return Ok(served?),
            // What is under way may end; only new requests need a new connection.
            () = asked.silent_for(patience), if !ends => {
                ends = true;
                connection.as_mut().graceful_shutdown();
            }
            () = either(&leaving, &shutdown), if !ends => {
                ends = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => {
                let standing = owed.give_up(patience);
                // Only streams are left that wait for a window: they would wait for ever. The
                // service and this function hold one each of what a request under way holds.
                let idle = standing.alive == 0 && Arc::strong_count(&asking) <= 2;
                if ends && idle && standing.given_up > 0 {
                    return Err("the client takes nothing of its answers".into());
                }
            }
        }
    }
}
