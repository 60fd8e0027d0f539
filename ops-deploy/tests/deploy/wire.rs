//! What goes over the wire: hostile clients, hostile services.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ops_deploy::{ProxyClient, ProxyConfig, ReverseProxy, TrafficSwitch as _, Upstream};
use tokio_util::sync::CancellationToken;

use crate::stage::until;

/// A proxy before a service that is a script: for each connection, what it answers to each head.
struct Wire {
    _dir: tempfile::TempDir,
    address: SocketAddr,
    client: ProxyClient,
    upstream: Upstream,
    seen: std::sync::mpsc::Receiver<String>,
    _end: tokio_util::sync::DropGuard,
}

/// Reads until this text has come, or the other side has ended.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        all.extend_from_slice(&piece[..n]);
        if !text.is_empty() && all.windows(text.len()).any(|part| part == text.as_bytes()) {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

impl Wire {
    /// The service reads until `asked` has come, answers `answer`, and hangs up.
    async fn new(asked: &'static str, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                if tell.send(read_until(&mut stream, asked)).is_err() {
                    return;
                }
                let _ = stream.write_all(&answer);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.path().join("proxy"))
            .client_timeout(Duration::from_secs(1))
            .response_timeout(Duration::from_secs(2));
        let proxy = ReverseProxy::bind(config).await.unwrap();
        let (public, end) = (proxy.address(), CancellationToken::new());
        tokio::spawn(proxy.serve(end.clone()));
        let client = ProxyClient::new(dir.path().join("proxy"));
        let upstream = Upstream { address, instance: "script".into() };
        client.switch(0, Some(&upstream)).await.unwrap();
        Self { _dir: dir, address: public, client, upstream, seen, _end: end.drop_guard() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes as they are; answers all that comes back until the connection ends.
    async fn send(&self, bytes: impl Into<Vec<u8>>) -> String {
        let (mut stream, bytes) = (self.connect(), bytes.into());
        tokio::task::spawn_blocking(move || {
            stream.write_all(&bytes).unwrap();
            read_until(&mut stream, "")
        })
        .await
        .unwrap()
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_reaches_no_service() {
    let wire = Wire::new("\r\n\r\n", OK).await;
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    for (request, status) in [
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\naccept: */*\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 501),
        (huge.as_str(), 431),
    ] {
        let answer = wire.send(request).await;
        let shown = &request[..request.len().min(90)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
    }
    assert!(wire.seen.try_recv().is_err(), "a service was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_smuggles_nothing() {
    for lengths in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let wire = Wire::new("0\r\n\r\n", OK).await;
        let request = format!(
            "POST /first HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answers = wire.send(request).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        let seen = wire.seen.recv().unwrap();
        assert!(!seen.contains("content-length") && !seen.contains("smuggled"), "{seen}");
        assert!(seen.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{seen}");
        assert!(wire.seen.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_target_decides_the_host_and_only_websockets_change_the_protocol() {
    let wire = Wire::new("\r\n\r\n", OK).await;
    wire.send(
        "GET http://real.example/x HTTP/1.1\r\nhost: other\r\nconnection: upgrade, close\r\n\
         upgrade: h2c\r\nhttp2-settings: k\r\n\r\n",
    )
    .await;
    let seen = wire.seen.recv().unwrap().to_lowercase();
    assert!(seen.starts_with("get /x http/1.1\r\n"), "{seen}");
    assert!(seen.contains("host: real.example") && !seen.contains("other"), "{seen}");
    assert!(!seen.contains("upgrade"), "{seen}");
    // A wish with a body, or by another method, is none.
    let with_body = "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\
                     content-length: 2\r\n\r\nhi";
    wire.send(with_body).await;
    let seen = wire.seen.recv().unwrap().to_lowercase();
    assert!(!seen.contains("upgrade"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_the_protocol_is_a_bad_gateway() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let wire = Wire::new("\r\n\r\n", answer).await;
        let got = wire.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer}: {got}");
        assert_eq!(wire.client.in_flight(&wire.upstream).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for (answer, cut) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "content-length: 9"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "chunked"),
    ] {
        let wire = Wire::new("\r\n\r\n", answer).await;
        let got = wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(got.contains(cut) && got.contains("half"), "{got}");
        assert!(!got.contains("\r\n0\r\n") && got.matches("HTTP/1.1 ").count() == 1, "{got}");
        assert_eq!(wire.client.in_flight(&wire.upstream).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_bodies_and_waiting_bodies_come_through() {
    let wire = Wire::new("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n").await;
    let two =
        "HEAD / HTTP/1.1\r\nhost: a\r\n\r\nHEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let got = wire.send(two).await;
    assert_eq!(got.matches("content-length: 7").count(), 2, "{got}");

    // A client that waits for 100 before it sends its body; and early hints of the service.
    let answer =
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let wire = Wire::new("body!", answer).await;
    let mut stream = wire.connect();
    let got = tokio::task::spawn_blocking(move || {
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let goes_on = read_until(&mut stream, "\r\n\r\n");
        assert!(goes_on.starts_with("HTTP/1.1 100 "), "{goes_on}");
        stream.write_all(b"body!").unwrap();
        read_until(&mut stream, "ok")
    })
    .await
    .unwrap();
    assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("ok"), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_or_takes_too_slowly_is_let_go() {
    // Half a head, and silence.
    let wire = Wire::new("\r\n\r\n", OK).await;
    let begun = Instant::now();
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());

    // A large answer of which nothing is read: its request must not stay in flight for ever.
    let mut large = b"HTTP/1.1 200 OK\r\ncontent-length: 64000000\r\n\r\n".to_vec();
    large.resize(64_000_000, b'x');
    let wire = Wire::new("\r\n\r\n", large).await;
    let mut stream = wire.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wire.seen.recv().unwrap();
    until(async || match wire.client.in_flight(&wire.upstream).await.unwrap() {
        0 => Ok(()),
        n => Err(format!("{n} in flight")),
    })
    .await;
    drop(stream);
}
