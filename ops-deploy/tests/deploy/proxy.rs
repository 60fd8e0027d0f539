use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ops_deploy::{ErrorKind, ProxyClient, TrafficSwitch as _, Upstream};

use crate::stage::{PROGRAM, SERVICE, get, http, until};
use crate::standalone::Proxy;

/// A process that ends with its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts the service and waits until it answers.
pub async fn service(dir: &Path, version: &str, mode: &str) -> (Process, Upstream) {
    let folder = dir.join(version);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mode"), mode).unwrap();
    let port = free_port();
    let child = Command::new(SERVICE)
        .args([&port.to_string(), version])
        .current_dir(&folder)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    until(async || match TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    (process, Upstream { address: ([127, 0, 0, 1], port).into(), instance: version.to_owned() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_moves_new_requests_and_lets_old_ones_end() {
    let proxy = Proxy::start().await;
    let (_one, one) = service(proxy.dir.path(), "one", "healthy").await;
    let (_two, two) = service(proxy.dir.path(), "two", "healthy").await;
    assert_eq!(get(&http(), &proxy.url("/")).await.unwrap().0, 503);
    proxy.point(&one).await;

    let client = http();
    assert_eq!(get(&client, &proxy.url("/")).await.unwrap().1, "one");
    let slow = tokio::spawn({
        let (client, url) = (client.clone(), proxy.url("/slow?ms=600"));
        async move { get(&client, &url).await }
    });
    until(async || match proxy.client.in_flight(&one).await.unwrap() {
        1 => Ok(()),
        n => Err(format!("{n} in flight")),
    })
    .await;
    proxy.point(&two).await;
    assert_eq!(get(&client, &proxy.url("/")).await.unwrap().1, "two", "also on a kept connection");
    assert_eq!(proxy.client.drain(&one, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(proxy.client.drain(&one, Duration::from_secs(10)).await.unwrap(), 0);
    assert_eq!(slow.await.unwrap().unwrap().1, "one");

    let lost = proxy.client.switch(1, Some(&one)).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Conflict);
    let status = proxy.client.status().await.unwrap();
    assert_eq!((status.pointer.epoch, status.pointer.upstream), (2, Some(two)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_service_closes_loses_no_request() {
    let proxy = Proxy::start().await;
    let (_service, upstream) = service(proxy.dir.path(), "hangup", "hangup").await;
    proxy.point(&upstream).await;
    let client = http();
    // The pauses go around the moment in which the service hangs up.
    for n in 0..300 {
        let answer = get(&client, &proxy.url("/")).await.unwrap();
        assert_eq!((answer.0, answer.2.as_str()), (200, "hangup"), "request {n}");
        tokio::time::sleep(Duration::from_micros(4_000 + 10 * n)).await;
    }
}

/// Answers the first connection's second request by closing it, as if it had died on the way.
fn closes_on_the_second() -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for connection in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for request in 0..2 {
                let mut head = [0; 4096];
                let Ok(n @ 1..) = stream.read(&mut head) else { return seen };
                let first = String::from_utf8_lossy(&head[..n]).lines().next().unwrap().to_owned();
                seen.push(first);
                if connection == 0 && request == 1 {
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                if connection == 1 {
                    return seen;
                }
            }
        }
        seen
    });
    (port, thread)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changes_nothing_is_asked_again() {
    for (method, status, asked) in [
        (Method::GET, 200, vec!["GET /first HTTP/1.1", "GET / HTTP/1.1", "GET / HTTP/1.1"]),
        (Method::POST, 502, vec!["GET /first HTTP/1.1", "POST / HTTP/1.1"]),
        (Method::DELETE, 502, vec!["GET /first HTTP/1.1", "DELETE / HTTP/1.1"]),
    ] {
        let proxy = Proxy::start().await;
        let (port, thread) = closes_on_the_second();
        let address = ([127, 0, 0, 1], port).into();
        proxy.point(&Upstream { address, instance: "fake".into() }).await;
        let client = http();
        assert_eq!(get(&client, &proxy.url("/first")).await.unwrap().0, 200);
        let request = Request::builder().method(&method).uri(proxy.url("/"));
        let answer =
            client.request(request.body(http_body_util::Empty::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method}");
        if status != 200 {
            // Ends the waiting for a second connection.
            drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
        assert_eq!(thread.join().unwrap(), asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_and_headers_of_one_hop_stay_there() {
    let proxy = Proxy::start().await;
    let (_service, upstream) = service(proxy.dir.path(), "one", "healthy").await;
    proxy.point(&upstream).await;

    // The first piece comes back before the second one is sent.
    let (to, pieces) = futures::channel::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let mut to = to;
    let client: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(proxy.url("/echo")).body(StreamBody::new(pieces)).unwrap();
    let answer = tokio::spawn(async move { client.request(request).await.unwrap() });
    to.try_send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    to.try_send(Ok(Frame::data(Bytes::from_static(b"second")))).unwrap();
    drop(to);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "second");

    let large = Bytes::from(vec![b'x'; 5_000_000]);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(proxy.url("/echo")).body(Full::new(large.clone())).unwrap();
    let back = client.request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(back.to_bytes(), large);

    let request = Request::get(proxy.url("/headers"))
        .header("connection", "x-mine")
        .header("x-mine", "1")
        .header("x-forwarded-for", "10.1.1.1")
        .header("host", "shop.example")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = client.request(request).await.unwrap();
    assert!(!answer.headers().contains_key("x-secret-hop"));
    let seen = answer.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains(r#"x-forwarded-for: "10.1.1.1, 127.0.0.1""#), "{seen}");
    assert!(seen.contains(r#"host: "shop.example""#), "{seen}");
    assert!(!seen.contains("x-mine"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_told_apart() {
    let proxy = Proxy::with(|config| config.response_timeout(Duration::from_secs(1))).await;
    let nobody =
        Upstream { address: ([127, 0, 0, 1], free_port()).into(), instance: "gone".into() };
    proxy.point(&nobody).await;
    assert_eq!(get(&http(), &proxy.url("/")).await.unwrap().0, 502);
    let (_service, slow) = service(proxy.dir.path(), "slow", "healthy").await;
    proxy.point(&slow).await;
    assert_eq!(get(&http(), &proxy.url("/slow?ms=5000")).await.unwrap().0, 504);

    // A long upload is no late answer.
    let (mut to, pieces) =
        futures::channel::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let client: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let upload = Request::post(proxy.url("/count")).body(StreamBody::new(pieces)).unwrap();
    let answer = tokio::spawn(async move { client.request(upload).await.unwrap() });
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        to.send(Ok(Frame::data(Bytes::from_static(b"piece")))).await.unwrap();
    }
    drop(to);
    let body = answer.await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "40");
    assert_eq!(proxy.client.status().await.unwrap().in_flight, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ending_proxy_answers_what_it_has_begun() {
    let proxy = Proxy::start().await;
    let (_service, upstream) = service(proxy.dir.path(), "one", "healthy").await;
    proxy.point(&upstream).await;
    let url = proxy.url("/slow?ms=300");
    let slow = tokio::spawn(async move { get(&http(), &url).await });
    until(async || match proxy.client.in_flight(&upstream).await.unwrap() {
        1 => Ok(()),
        n => Err(format!("{n} in flight")),
    })
    .await;
    proxy.shutdown.cancel();
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
    proxy.served.await.unwrap();
    let error = proxy.client.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Proxy);
    assert!(error.to_string().contains("cannot be reached; start the proxy"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (_service, upstream) = service(dir.path(), "one", "healthy").await;
    let address = format!("127.0.0.1:{}", free_port());
    let start = || {
        let mut command = Command::new(PROGRAM);
        Process(command.arg("proxy").arg(dir.path()).arg(&address).spawn().unwrap())
    };
    let client = ProxyClient::new(dir.path().join("proxy"));
    let up = async || client.status().await.map(drop).map_err(|error| error.to_string());

    let mut proxy = start();
    until(up).await;
    client.switch(0, Some(&upstream)).await.unwrap();
    let mut second = start();
    assert!(!second.0.wait().unwrap().success(), "one proxy a folder");

    proxy.0.kill().unwrap();
    proxy.0.wait().unwrap();
    let _proxy = start();
    until(up).await;
    assert_eq!(client.current().await.unwrap().upstream, Some(upstream));
    assert_eq!(get(&http(), &format!("http://{address}/")).await.unwrap().2, "one");
}
