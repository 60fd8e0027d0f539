//! WebSocket through the proxy, by a real client and a real service of the protocol.

use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use ops_deploy::proxy::Tally;
use ops_deploy::{TrafficSwitch as _, Upstream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async};

use crate::stage::{get, http, until};
use crate::standalone::Proxy;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A service that says everything twice, its name first.
async fn echo(name: &'static str) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let answer = match message {
                        Message::Text(text) => Message::text(format!("{name}: {text}")),
                        Message::Binary(bytes) => Message::Binary(bytes),
                        _ => continue,
                    };
                    if socket.send(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Upstream { address, instance: name.into() }
}

async fn connect(proxy: &Proxy) -> Result<Socket, WsError> {
    connect_async(format!("ws://{}/chat", proxy.address)).await.map(|(socket, _)| socket)
}

async fn ask(socket: &mut Socket, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    socket.next().await.unwrap().unwrap().into_text().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_stays_where_it_was_opened_and_holds_the_drain() {
    let (one, two) = (echo("one").await, echo("two").await);
    let proxy = Proxy::to(&one, |config| config).await;
    let mut old = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut old, "hello").await, "one: hello");
    let large = vec![7_u8; 3 << 20];
    old.send(Message::binary(large.clone())).await.unwrap();
    assert_eq!(old.next().await.unwrap().unwrap().into_data(), large);
    assert_eq!(proxy.client.in_flight(&one).await.unwrap(), 1);

    proxy.client.switch(1, Some(&two)).await.unwrap();
    let mut new = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut new, "hello").await, "two: hello");
    assert_eq!(ask(&mut old, "still").await, "one: still");
    assert_eq!(proxy.client.drain(&one, Duration::from_millis(50)).await.unwrap(), 1);
    old.close(None).await.unwrap();
    while old.next().await.is_some() {}
    assert_eq!(proxy.client.drain(&one, Duration::from_secs(10)).await.unwrap(), 0);
    assert_eq!(proxy.client.in_flight(&two).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_decline() {
    // It speaks HTTP, and no WebSocket.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream { address: listener.local_addr().unwrap(), instance: "http".into() };
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let answer =
                b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
            let _ = stream.write_all(answer).await;
        }
    });
    let proxy = Proxy::to(&upstream, |config| config).await;
    let Err(WsError::Http(answer)) = connect(&proxy).await else { panic!("it was not declined") };
    assert_eq!(answer.status().as_u16(), 403);
    until(async || match proxy.client.in_flight(&upstream).await.unwrap() {
        0 => Ok(()),
        left => Err(format!("{left} under way")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_ends_and_a_busy_one_does_not() {
    let upstream = echo("one").await;
    let idle = Duration::from_secs(2);
    let proxy = Proxy::to(&upstream, |config| config.tunnel_idle(idle)).await;
    let mut socket = connect(&proxy).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * idle {
        assert_eq!(ask(&mut socket, "here").await, "one: here");
        tokio::time::sleep(idle / 10).await;
    }
    assert!(matches!(socket.next().await, None | Some(Err(_))), "silence ends it");
    assert_eq!(proxy.client.drain(&upstream, Duration::from_secs(10)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_proxy_waits_for_tunnels_and_then_cuts_them() {
    let upstream = echo("one").await;
    let grace = Duration::from_secs(3);
    let proxy = Proxy::to(&upstream, |config| config.shutdown_grace(grace)).await;
    let mut socket = connect(&proxy).await.unwrap();
    proxy.shutdown.cancel();
    assert_eq!(ask(&mut socket, "still").await, "one: still");
    proxy.served.await.unwrap();
    assert!(matches!(socket.next().await, None | Some(Err(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_taken_until_its_tunnel_ends() {
    let upstream = echo("one").await;
    let proxy = Proxy::to(&upstream, |config| config.max_connections(1)).await;
    let mut first = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut first, "mine").await, "one: mine");
    let waiting = tokio::time::timeout(Duration::from_millis(300), connect(&proxy)).await;
    assert!(waiting.is_err(), "there is one seat");
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(10), connect(&proxy)).await;
    let mut second = second.unwrap().unwrap();
    assert_eq!(ask(&mut second, "mine").await, "one: mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_counted() {
    let upstream = echo("one").await;
    let proxy = Proxy::to(&upstream, |config| config).await;
    let mut socket = connect(&proxy).await.unwrap();
    ask(&mut socket, "hello").await;
    // The service takes this for a bad handshake.
    let (status, ..) = get(&http(), &format!("http://{}/", proxy.address)).await.unwrap();
    let nobody = Upstream { address: ([127, 0, 0, 1], 1).into(), instance: "nobody".into() };
    proxy.client.switch(1, Some(&nobody)).await.unwrap();
    assert_eq!(get(&http(), &format!("http://{}/", proxy.address)).await.unwrap().0, 502);

    let answered = proxy.client.status().await.unwrap().answered;
    let of = |name: &str| -> Tally {
        answered.iter().find(|one| one.upstream.instance == name).unwrap().tally.clone()
    };
    let (one, nobody) = (of("one"), of("nobody"));
    let failed = one.client_errors + one.server_errors + one.unanswered;
    assert_eq!((one.requests, failed), (2, 1), "{status}: {one:?}");
    assert_eq!(one.latency.iter().sum::<u64>(), 2);
    assert_eq!((nobody.requests, nobody.unanswered), (1, 1));
    assert_eq!(nobody.error_rate(), Some(1.0));
}
