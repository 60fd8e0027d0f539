//! A predecessor that dies while its place is being taken, at moments that no kill hits for sure.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lock::{FolderLock, ServingLock};
use super::messages::{FromPredecessor, FromSuccessor, SCHEMA};
use super::wire::{hear_with, say_with};
use super::{SOCKET, Sockets};
use crate::error::Error;
use crate::proxy::{ProxyClient, ProxyConfig, ReverseProxy, admin};
use crate::traffic::TrafficSwitch as _;

/// A proxy that another one asks for its place.
struct Asked {
    dir: tempfile::TempDir,
    address: SocketAddr,
    sockets: Sockets,
    serving: ServingLock,
    /// To the other one.
    line: UnixStream,
    successor: JoinHandle<Result<ReverseProxy, Error>>,
}

impl Asked {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = FolderLock::take(dir.path()).unwrap();
        let serving = ServingLock::open(dir.path()).unwrap();
        assert!(serving.try_take());
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let next = admin::listen(dir.path(), SOCKET).unwrap();
        let admin = admin::listen(dir.path(), admin::SOCKET).unwrap().into();
        let sockets = Sockets { public, admin, next, folder };
        let address = sockets.public.local_addr().unwrap();
        let config = ProxyConfig::new(address, dir.path());
        let successor = tokio::spawn(ReverseProxy::take_over(config));
        let (line, _) = sockets.next.accept().await.unwrap();
        Self { dir, address, sockets, serving, line, successor }
    }
}

async fn it_serves(
    successor: JoinHandle<Result<ReverseProxy, Error>>,
    address: SocketAddr,
    folder: &Path,
) {
    let proxy = successor.await.unwrap().unwrap();
    assert_eq!(proxy.address(), address);
    let ending = CancellationToken::new();
    let served = tokio::spawn(proxy.serve(ending.clone()));
    let client = ProxyClient::new(folder);
    assert_eq!(client.status().await.unwrap().address, address);
    assert_eq!(client.current().await.unwrap().epoch, 0);
    ending.cancel();
    served.await.unwrap();
}

// On one thread: the offer and the end of the line are there before the successor looks.
#[tokio::test]
async fn one_that_dies_right_after_its_offer_has_given_its_place() {
    let Asked { dir, address, sockets, serving, line, successor } = Asked::new().await;
    let (hello, _) = hear_with(&line).await.unwrap();
    assert!(matches!(hello, FromSuccessor::Hello { .. }), "{hello:?}");
    let offer = FromPredecessor::Offer { schema: SCHEMA, pid: std::process::id(), address };
    let Sockets { public, admin, next, folder } = &sockets;
    let files = [public.as_fd(), admin.as_fd(), next.as_fd(), folder.as_fd()];
    say_with(&line, &offer, files).await.unwrap();
    drop((line, sockets, serving));
    it_serves(successor, address, dir.path()).await;
}

#[tokio::test]
async fn what_a_dying_one_still_has_is_waited_for() {
    let Asked { dir, address, sockets, serving, line, successor } = Asked::new().await;
    // Its line breaks first; the kernel takes its time with the rest.
    let Sockets { public, admin, next, folder } = sockets;
    drop((line, admin, next));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop((folder, serving));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(public);
    it_serves(successor, address, dir.path()).await;
}
