//! HTTP/2 with prior knowledge, by a real client, to a service that speaks HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ops_deploy::{TrafficSwitch as _, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::standalone::Proxy;

use crate::stage::until;

/// A service of one answer: the head that it was asked with, and the length of the body.
async fn mirror(name: &'static str) -> Upstream {
    use hyper::service::service_fn;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                let (head, body) = request.into_parts();
                let length = body.collect().await?.to_bytes().len();
                let text =
                    format!("{name} {:?} {} {:?} {length}", head.version, head.uri, head.headers);
                Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(text))))
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { http.serve_connection(TokioIo::new(stream), answer).await });
        }
    });
    Upstream { address, instance: name.into() }
}

async fn proxy(to: &Upstream, patience: Duration) -> Proxy {
    Proxy::to(to, |config| config.client_timeout(patience)).await
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(to: SocketAddr) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn ask(sender: &mut Sender, body: usize) -> (StatusCode, String) {
    let request = Request::post("http://shop.example/cart?x=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from(vec![b'x'; body])))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_connection_and_follow_the_switch() {
    let (one, two) = (mirror("one").await, mirror("two").await);
    let proxy = proxy(&one, Duration::from_secs(20)).await;
    let (sender, _connection) = connect(proxy.address).await;
    let asked = (0..20).map(|n| {
        let mut sender = sender.clone();
        async move { ask(&mut sender, n * 20_000).await }
    });
    for (n, (status, said)) in futures::future::join_all(asked).await.into_iter().enumerate() {
        assert_eq!(status, 200);
        assert!(said.starts_with("one HTTP/1.1 /cart?x=1 "), "{said}");
        assert!(said.ends_with(&format!(" {}", n * 20_000)), "{said}");
        assert!(said.contains(r#""host": "shop.example""#), "{said}");
        assert!(said.contains(r#""cookie": "a=1; b=2""#), "{said}");
        assert!(said.contains(r#""x-forwarded-for": "127.0.0.1""#), "{said}");
    }
    proxy.client.switch(1, Some(&two)).await.unwrap();
    let (_, said) = ask(&mut sender.clone(), 1).await;
    assert!(said.starts_with("two "), "{said}");
    assert_eq!(proxy.client.drain(&one, Duration::from_secs(10)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_and_the_end_of_the_proxy_are_announced() {
    let upstream = mirror("one").await;
    let short = proxy(&upstream, Duration::from_secs(1)).await;
    let (mut sender, connection) = connect(short.address).await;
    assert_eq!(ask(&mut sender, 1).await.0, 200);
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await.unwrap();
    ended.unwrap().unwrap();

    let long = proxy(&upstream, Duration::from_mins(1)).await;
    let (mut sender, connection) = connect(long.address).await;
    assert_eq!(ask(&mut sender, 1).await.0, 200);
    long.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), connection).await.unwrap().unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(10), long.served).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_which_protocol_is_let_go() {
    let upstream = mirror("one").await;
    let proxy = proxy(&upstream, Duration::from_secs(1)).await;
    for said in ["", "PRI * HT", "GET / HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut got));
        let _ = end.await.expect("the connection is held");
        assert!(!got.starts_with(b"HTTP/1.1 200"), "{said}");
    }
    // A short request is whole with fewer bytes than a preface has.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert!(got.starts_with(b"HTTP/1.0 200") || got.starts_with(b"HTTP/1.1 200"), "{got:?}");
}

/// A client that never opens a window answers every ping, so nothing of the connection tells.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_is_given_up_and_its_neighbours_go_on() {
    let upstream = mirror("one").await;
    let proxy = proxy(&upstream, Duration::from_millis(1500)).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let head = |sender: &mut Sender| {
        let request = Request::get("http://shop.example/").body(Full::default()).unwrap();
        sender.send_request(request)
    };
    let stalled = head(&mut sender).await.unwrap();
    assert_eq!(stalled.status(), 200);
    assert_eq!(proxy.client.status().await.unwrap().in_flight[0].requests, 1);
    // While it goes on asking the connection stays; heads need no window.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(head(&mut sender).await.unwrap().status(), 200, "a neighbour is answered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until(async || match proxy.client.status().await.unwrap().in_flight.first() {
        Some(held) => Err(format!("{held:?}")),
        None => Ok(()),
    })
    .await;
    // Then it falls silent, and the connection ends, though its streams never can.
    assert_eq!(proxy.client.drain(&upstream, Duration::from_secs(10)).await.unwrap(), 0);
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    let _ = ended.expect("the connection is held").unwrap();
    drop(stalled);
}
