//! `ops-deploy-test-service PORT VERSION`: a small real service. The file `mode` where it runs says
//! how it behaves: `healthy` (also without the file), `silent` (its health is 503), `wrong` (it says
//! that it is another version), `crash` (it ends after its start), `stubborn` (it ignores SIGTERM),
//! `hangup` (it closes each connection 5 ms after its first answer), and, with a good health, `ailing`
//! (all other answers are 500), `sluggish` (they take 300 ms), `hiccup` (some of the first are 500).
#![expect(clippy::print_stderr, reason = "its log is part of the tests")]

use std::convert::Infallible;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

type Answer = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().expect("a port").parse().expect("a port");
    let version = args.next().expect("a version");
    let mode = std::fs::read_to_string("mode").unwrap_or_default().trim().to_owned();
    eprintln!("{version} starts as `{mode}`");
    if mode == "stubborn" {
        // Once somebody listens for it, the signal ends nobody.
        let _ = signal(SignalKind::terminate());
    }
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if mode == "crash" {
        eprintln!("something is missing");
        return ExitCode::FAILURE;
    }
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (version, mode) = (version.clone(), mode.clone());
        tokio::spawn(async move {
            let hangs_up = mode == "hangup";
            let answered = Arc::new(Notify::new());
            let after = Arc::clone(&answered);
            let service = service_fn(move |request| {
                let (version, mode, after) = (version.clone(), mode.clone(), Arc::clone(&after));
                async move {
                    let answer = answer(request, version, mode).await;
                    after.notify_one();
                    answer
                }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let mut served = pin!(served.with_upgrades());
            let idle = async {
                answered.notified().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            tokio::select! {
                _ = served.as_mut() => return,
                () = idle, if hangs_up => served.as_mut().graceful_shutdown(),
            }
            let _ = served.await;
        });
    }
}

/// Says each short frame of a WebSocket (RFC 6455) again, until it is closed.
async fn echo(upgrade: hyper::upgrade::OnUpgrade) -> Option<()> {
    let mut socket = TokioIo::new(upgrade.await.ok()?);
    loop {
        let (mut head, mut mask) = ([0; 2], [0; 4]);
        socket.read_exact(&mut head).await.ok()?;
        socket.read_exact(&mut mask).await.ok()?;
        let mut frame = vec![0; usize::from(head[1] & 0x7f)];
        socket.read_exact(&mut frame).await.ok()?;
        for (byte, mask) in frame.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        frame.splice(0..0, [head[0], head[1] & 0x7f]);
        socket.write_all(&frame).await.ok()?;
        if head[0] == 0x88 {
            return socket.shutdown().await.ok();
        }
    }
}

async fn answer(
    mut request: Request<Incoming>,
    version: String,
    mode: String,
) -> Result<Answer, Infallible> {
    let number = |name: &str| {
        let query = request.uri().query()?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let says = if mode == "wrong" { "somebody-else" } else { &version };
    let builder = Response::builder().header("x-version", says);
    let text =
        |text: String| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let response = match request.uri().path() {
        "/health" if mode == "silent" => {
            builder.status(StatusCode::SERVICE_UNAVAILABLE).body(text("not yet".into()))
        }
        "/health" => builder.body(text(format!(r#"{{"build":{{"version":"{says}"}}}}"#))),
        "/" if ails(&mode).await => {
            builder.status(StatusCode::INTERNAL_SERVER_ERROR).body(text("broken".into()))
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(100))).await;
            builder.body(text(version))
        }
        "/ws" => {
            tokio::spawn(echo(hyper::upgrade::on(&mut request)));
            builder
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                // Of the one key that the load generator has.
                .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                .body(text(String::new()))
        }
        "/echo" => builder.body(request.into_body().boxed_unsync()),
        "/count" => match request.into_body().collect().await {
            Ok(body) => builder.body(text(body.to_bytes().len().to_string())),
            Err(_) => builder.status(StatusCode::BAD_REQUEST).body(text(String::new())),
        },
        "/headers" => {
            let headers: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {value:?}"))
                .collect();
            builder
                .header("connection", "x-secret-hop")
                .header("x-secret-hop", "1")
                .body(text(headers.join("\n")))
        }
        _ => builder.body(text(version)),
    };
    Ok(response.expect("the parts are right"))
}

/// Whether an answer that is no health is an error.
async fn ails(mode: &str) -> bool {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
    if mode == "sluggish" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    mode == "ailing" || mode == "hiccup" && (30..36).contains(&asked)
}
