//! A connection that changes its protocol: WebSocket (RFC 6455).

use std::pin::pin;
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::timeout;
use tokio_util::io::InspectReader;

use super::heard::Heard;

const WEBSOCKET: &str = "websocket";

/// How long the other side may go on when one has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Whether a request asks for WebSocket. Any other change of protocol ends at this proxy.
pub(super) fn is_wanted(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && names(request.headers(), &CONNECTION, "upgrade")
        && names(request.headers(), &UPGRADE, WEBSOCKET)
}

/// Whether an answer agrees to it.
pub(super) fn is_agreed(headers: &HeaderMap) -> bool {
    names(headers, &UPGRADE, WEBSOCKET)
}

fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Says it to the next hop, on which it has to be said anew.
pub(super) fn say(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Carries bytes both ways until one side has ended and the other had time to say its last, until
/// one breaks off, or until nothing moves for too long.
pub(super) async fn carry(client: OnUpgrade, service: OnUpgrade, idle: Duration) {
    let (client, service) = match tokio::try_join!(client, service) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(target: "ops", %error, "a tunnel did not open");
            return;
        }
    };
    let heard = Heard::now();
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_service, to_service) = split(TokioIo::new(service));
    let mut up = pin!(one_way(from_client, to_service, &heard));
    let mut down = pin!(one_way(from_service, to_client, &heard));
    let ended = tokio::select! {
        ended = &mut up => ended.and(timeout(LAST_WORDS, down).await.unwrap_or(Ok(()))),
        ended = &mut down => ended.and(timeout(LAST_WORDS, up).await.unwrap_or(Ok(()))),
        () = heard.silent_for(idle) => Err(std::io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(target: "ops", %error, "a tunnel broke");
    }
}

async fn one_way<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: R,
    mut to: W,
    heard: &Heard,
) -> std::io::Result<()> {
    let mut from = InspectReader::new(from, |_: &[u8]| heard.again());
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
