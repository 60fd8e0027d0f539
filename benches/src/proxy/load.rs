//! The service behind the proxies, and the clients before them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// How long an answer is.
const BODY: usize = 1024;

/// Answers every request with a kilobyte, for as long as the runtime lives.
pub(super) async fn serve() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let answer = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; BODY]))))
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { http.serve_connection(TokioIo::new(stream), answer).await });
        }
    });
    Ok(address)
}

/// Connections that are kept.
pub(super) struct Connections {
    host: String,
    senders: Vec<SendRequest<Empty<Bytes>>>,
}

impl Connections {
    pub(super) async fn open(address: SocketAddr, count: usize) -> Result<Self, Failure> {
        let mut senders = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            senders.push(sender);
        }
        Ok(Self { host: address.to_string(), senders })
    }

    /// So many requests, as even as can be over the connections; every answer must be whole.
    pub(super) async fn ask(&mut self, requests: u32) -> Result<Duration, Failure> {
        let count = u32::try_from(self.senders.len())?;
        let begun = Instant::now();
        let mut asking = Vec::new();
        for (n, mut sender) in (0..count).zip(self.senders.drain(..)) {
            let (own, host) =
                (requests / count + u32::from(n < requests % count), self.host.clone());
            asking.push(tokio::spawn(async move {
                for _ in 0..own {
                    let request = Request::get("/page").header("host", &host).body(Empty::new());
                    let request = request.map_err(|error| error.to_string())?;
                    sender.ready().await.map_err(|error| error.to_string())?;
                    let answer = sender.send_request(request).await;
                    let answer = answer.map_err(|error| error.to_string())?;
                    let status = answer.status();
                    let body = answer.into_body().collect().await;
                    let length = body.map_err(|error| error.to_string())?.to_bytes().len();
                    if !status.is_success() || length != BODY {
                        return Err(format!("{status} with {length} bytes"));
                    }
                }
                Ok(sender)
            }));
        }
        for one in asking {
            self.senders.push(one.await??);
        }
        Ok(begun.elapsed())
    }
}
