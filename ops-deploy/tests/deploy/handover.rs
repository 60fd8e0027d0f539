//! A proxy takes the place of another one, in processes of their own, while the public asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ops_core::crash::CRASH_AT;
use ops_deploy::load::{Load, LoadRun};
use ops_deploy::proxy::ProxyStatus;
use ops_deploy::{ProxyClient, ReverseProxy, TrafficSwitch as _, Upstream};
use tokio_util::sync::CancellationToken;

use crate::proxy::{Process, free_port, service};
use crate::stage::{PROGRAM, get, http, until};
use crate::standalone::Proxy;

/// A folder with a proxy that changes its process.
struct House {
    dir: tempfile::TempDir,
    address: SocketAddr,
    client: ProxyClient,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = ProxyClient::new(dir.path().join("proxy"));
        Self { dir, address: ([127, 0, 0, 1], free_port()).into(), client }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self, verb: &str, dies_at: Option<u64>) -> Process {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).arg(self.path()).arg(self.address.to_string()).stdin(Stdio::null());
        command.envs(dies_at.map(|at| (CRASH_AT, at.to_string())));
        Process(command.spawn().unwrap())
    }

    /// Waits until this process serves.
    async fn serves(&self, process: &Process) -> ProxyStatus {
        let mut found = None;
        until(async || {
            let status = self.client.status().await.map_err(|error| error.to_string())?;
            let served = status.pid == process.0.id();
            let other = format!("process {} serves, not {}", status.pid, process.0.id());
            found = Some(status);
            served.then_some(()).ok_or(other)
        })
        .await;
        found.unwrap()
    }

    /// Waits until this process either serves or has died.
    async fn has_died(&self, process: &mut Process) -> bool {
        let mut died = false;
        until(async || {
            died = process.0.try_wait().unwrap().is_some();
            let serves = self.client.status().await.is_ok_and(|it| it.pid == process.0.id());
            (died || serves).then_some(()).ok_or_else(|| "neither dead nor serving".into())
        })
        .await;
        died
    }

    async fn point(&self, to: &Upstream) {
        let epoch = self.client.current().await.unwrap().epoch;
        self.client.switch(epoch, Some(to)).await.unwrap();
    }

    fn load(&self) -> LoadRun {
        let load = Load::on(self.address).fresh(2).kept(4).slow(1).sockets(1).per_second(300);
        load.patience(Duration::from_mins(1)).start().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Waits until a process has ended; answers whether it was killed.
async fn was_killed(process: &mut Process) -> bool {
    let mut ended = None;
    until(async || {
        ended = process.0.try_wait().unwrap();
        ended.map(drop).ok_or_else(|| "it runs".to_owned())
    })
    .await;
    ended.unwrap().signal().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_replaced_again_and_again_and_no_request_is_lost() {
    let house = House::new();
    let (_one, one) = service(house.path(), "one", "healthy").await;
    let (_two, two) = service(house.path(), "two", "healthy").await;
    let mut serving = house.start("proxy", None);
    house.serves(&serving).await;
    house.point(&one).await;
    let load = house.load();
    for round in 0..6 {
        let before = house.client.status().await.unwrap();
        let next = house.start("take-over", None);
        let status = house.serves(&next).await;
        assert_eq!(status.pointer, before.pointer, "round {round}");
        assert_eq!(status.address, house.address);
        let counted = |status: &ProxyStatus| -> u64 {
            status.answered.iter().map(|answered| answered.tally.requests).sum()
        };
        assert!(counted(&status) >= counted(&before), "what was answered is counted on");
        // The one before still has connections, which follow the pointer from here on.
        let (to, from) = if round % 2 == 0 { (&two, &one) } else { (&one, &two) };
        house.point(to).await;
        assert_eq!(house.client.drain(from, Duration::from_secs(20)).await.unwrap(), 0);
        let mut before = std::mem::replace(&mut serving, next);
        assert!(!was_killed(&mut before).await, "it ends by itself");
        assert!(before.0.wait().unwrap().success());
    }
    let figures = load.stop();
    assert_eq!(figures.failed, 0, "{figures}");
    assert!(figures.asked > 100, "{figures}");
    for kind in ["fresh", "kept", "slow", "sockets"] {
        assert!(figures.by_kind.contains_key(kind), "{figures}");
    }
    assert_eq!(house.client.current().await.unwrap().epoch, 7, "each switch counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_is_killed_anywhere_leaves_the_old_one_serving() {
    let house = House::new();
    let (_one, one) = service(house.path(), "one", "healthy").await;
    let serving = house.start("proxy", None);
    house.serves(&serving).await;
    house.point(&one).await;
    let load = house.load();
    let mut at = 0;
    let _serves = loop {
        at += 1;
        house.point(&one).await;
        let epoch = house.client.current().await.unwrap().epoch;
        let mut next = house.start("take-over", Some(at));
        // It dies at its place, or it has no such place and serves.
        if !house.has_died(&mut next).await {
            break next;
        }
        assert!(was_killed(&mut next).await);
        let status = house.serves(&serving).await;
        assert_eq!(status.pointer.epoch, epoch, "killed at place {at}");
        assert_eq!(get(&http(), &house.url("/")).await.unwrap().1, "one");
    };
    let figures = load.stop();
    assert_eq!(figures.failed, 0, "{figures}");
    assert!(at > 6, "there are more places: {at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_serves_wherever_the_old_one_is_killed() {
    let house = House::new();
    let (_one, one) = service(house.path(), "one", "healthy").await;
    let first = house.start("proxy", None);
    house.serves(&first).await;
    house.point(&one).await;
    drop(first);
    let mut killed_in_between = 0;
    for at in 1.. {
        let mut old = house.start("proxy", Some(at));
        if house.has_died(&mut old).await {
            continue;
        }
        let next = house.start("take-over", None);
        let status = house.serves(&next).await;
        assert_eq!(status.pointer.upstream, Some(one.clone()), "killed at place {at}");
        assert_eq!(get(&http(), &house.url("/")).await.unwrap().1, "one");
        if !was_killed(&mut old).await {
            break;
        }
        killed_in_between += 1;
    }
    assert!(killed_in_between >= 5, "{killed_in_between} places");
}

/// Reads one answer off a connection that is kept.
fn ask(connection: &mut BufReader<TcpStream>, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n");
    connection.get_mut().write_all(head.as_bytes()).unwrap();
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_one_still_has_follows_the_pointer_and_is_counted() {
    let house = House::new();
    let (_one, one) = service(house.path(), "one", "healthy").await;
    let (_two, two) = service(house.path(), "two", "healthy").await;
    let old = house.start("proxy", None);
    house.serves(&old).await;
    house.point(&one).await;
    // One that has asked, one that is waiting for its answer, and one that has only come.
    let mut kept = BufReader::new(TcpStream::connect(house.address).unwrap());
    assert!(ask(&mut kept, "/").ends_with("one"));
    let slow = TcpStream::connect(house.address).unwrap();
    let mut slow = BufReader::new(slow);
    slow.get_mut().write_all(b"GET /slow?ms=1500 HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
    until(async || match house.client.in_flight(&one).await.unwrap() {
        1 => Ok(()),
        n => Err(format!("{n} in flight")),
    })
    .await;
    let mut silent = BufReader::new(TcpStream::connect(house.address).unwrap());

    let next = house.start("take-over", None);
    house.serves(&next).await;
    house.point(&two).await;
    assert_eq!(house.client.in_flight(&one).await.unwrap(), 1, "of the process before");
    for waiting in [&mut kept, &mut silent] {
        let answer = ask(waiting, "/").to_lowercase();
        assert!(answer.ends_with("two") && answer.contains("connection: close"), "{answer}");
        let mut more = Vec::new();
        assert_eq!(waiting.read_to_end(&mut more).unwrap(), 0, "it is closed");
    }
    assert_eq!(house.client.drain(&one, Duration::from_secs(20)).await.unwrap(), 0);
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("one"), "{answer}");
    let status = house.client.status().await.unwrap();
    let of_one = status.answered.iter().find(|answered| answered.upstream == one).unwrap();
    assert_eq!(of_one.tally.requests, 2, "also what was answered after the handover");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_one_with_requests_left_serves_again_when_the_new_one_dies() {
    let house = House::new();
    let (_one, one) = service(house.path(), "one", "healthy").await;
    let (_two, two) = service(house.path(), "two", "healthy").await;
    let old = house.start("proxy", None);
    house.serves(&old).await;
    house.point(&one).await;
    let client = http();
    let slow = tokio::spawn({
        let (client, url) = (client.clone(), house.url("/slow?ms=4000"));
        async move { get(&client, &url).await }
    });
    until(async || match house.client.in_flight(&one).await.unwrap() {
        1 => Ok(()),
        n => Err(format!("{n} in flight")),
    })
    .await;
    let mut next = house.start("take-over", None);
    house.serves(&next).await;
    house.point(&two).await;
    next.0.kill().unwrap();
    let status = house.serves(&old).await;
    assert_eq!((status.pointer.epoch, status.pointer.upstream), (2, Some(two)));
    assert_eq!(get(&client, &house.url("/")).await.unwrap().1, "two");
    assert_eq!(house.client.in_flight(&one).await.unwrap(), 1);
    assert_eq!(slow.await.unwrap().unwrap().1, "one");
    // And it can be replaced after all.
    let another = house.start("take-over", None);
    house.serves(&another).await;
}

/// Says that it is ready, and nothing more.
fn hang(folder: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(folder.join("next.sock")).unwrap();
    stream.write_all(b"{\"hello\":{\"schema\":7,\"pid\":1}}\n").unwrap();
    let mut offer = [0; 512];
    let read = stream.read(&mut offer).unwrap();
    assert!(offer[..read].starts_with(b"{\"offer\":{\"schema\":1,"), "the lower of the two");
    stream.write_all(b"{\"ready\":{\"listens\":\"127.0.0.1:1\"}}\n").unwrap();
    let read = stream.read(&mut offer).unwrap();
    assert!(offer[..read].starts_with(b"{\"yours\":"));
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_hangs_or_talks_nonsense_is_not_waited_for() {
    let proxy = Proxy::start().await;
    let (_one, one) = service(proxy.dir.path(), "one", "healthy").await;
    proxy.point(&one).await;
    let folder = proxy.dir.path().join("proxy");
    let begun = Instant::now();
    let hung = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || hang(&folder)
    });
    let _hung = hung.await.unwrap();
    // Nobody accepts now; whoever asks waits, and is answered.
    let answer = get(&http(), &proxy.url("/")).await.unwrap();
    assert_eq!(answer.1, "one");
    assert!(begun.elapsed() >= Duration::from_secs(2), "the successor had its time");
    proxy.point(&one).await;

    let mut nonsense = UnixStream::connect(folder.join("next.sock")).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut more = Vec::new();
    tokio::task::spawn_blocking(move || nonsense.read_to_end(&mut more)).await.unwrap().unwrap();
    assert_eq!(get(&http(), &proxy.url("/")).await.unwrap().1, "one");
    assert_eq!(proxy.client.current().await.unwrap().epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_may_listen_elsewhere_and_one_that_cannot_changes_nothing() {
    let proxy = Proxy::start().await;
    let (_one, one) = service(proxy.dir.path(), "one", "healthy").await;
    proxy.point(&one).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |listen| ops_deploy::ProxyConfig::new(listen, proxy.dir.path().join("proxy"));
    let error = ReverseProxy::take_over(config(taken.local_addr().unwrap())).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen on"), "{error}");
    assert_eq!(get(&http(), &proxy.url("/")).await.unwrap().1, "one");

    let elsewhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let next = ReverseProxy::take_over(config(elsewhere)).await.unwrap();
    assert_eq!(next.address(), elsewhere);
    let end = CancellationToken::new();
    let served = tokio::spawn(next.serve(end.clone()));
    for url in [format!("http://{elsewhere}/"), proxy.url("/")] {
        assert_eq!(get(&http(), &url).await.unwrap().1, "one", "{url}");
    }
    proxy.served.await.unwrap();
    // Both are gone now, and a new one finds the folder free.
    end.cancel();
    served.await.unwrap();
    let again = ReverseProxy::take_over(config(elsewhere)).await.unwrap();
    drop(again);
}

/// Asks for a switch to nothing, on a line to the admin socket that was opened before.
fn switch_by_hand(line: &mut UnixStream, epoch: u64) -> String {
    let body = format!("{{\"expected_epoch\":{epoch},\"upstream\":null}}");
    let length = body.len();
    let head = format!("POST /switch HTTP/1.1\r\nhost: p\r\ncontent-length: {length}\r\n\r\n");
    line.write_all(head.as_bytes()).unwrap();
    line.write_all(body.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let read = line.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_was_dropped_moves_nothing_any_more() {
    let proxy = Proxy::start().await;
    let (_one, one) = service(proxy.dir.path(), "one", "healthy").await;
    proxy.point(&one).await;
    let folder = proxy.dir.path().join("proxy");
    let mut line = UnixStream::connect(folder.join("admin.sock")).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The proxy has taken it when it answers, here to an epoch that is not the current one.
    let heard = tokio::task::spawn_blocking(move || (switch_by_hand(&mut line, 9), line));
    let (answer, mut line) = heard.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    proxy.served.abort();
    let _ = proxy.served.await;
    let config = ops_deploy::ProxyConfig::new(([127, 0, 0, 1], 0).into(), &folder);
    let next = ReverseProxy::bind(config).await.unwrap();
    let answer = tokio::task::spawn_blocking(move || switch_by_hand(&mut line, 1)).await.unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let end = CancellationToken::new();
    let served = tokio::spawn(next.serve(end.clone()));
    assert_eq!(proxy.client.current().await.unwrap().upstream, Some(one));
    end.cancel();
    served.await.unwrap();
}
