//! A predecessor that dies while its place is being taken, at moments that no kill hits for sure.

use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::lock::{FolderLock, ServingLock};
use super::messages::{FromPredecessor, FromSuccessor, SCHEMA};
use super::wire::{hear_with, say_with};
use super::{SOCKET, Sockets};
use crate::proxy::{ProxyClient, ProxyConfig, ReverseProxy, admin};
use crate::traffic::TrafficSwitch as _;

/// What a process has that serves on a folder.
async fn serving(folder: &std::path::Path) -> (Sockets, ServingLock) {
    let lock = FolderLock::take(folder).unwrap();
    let serving = ServingLock::open(folder).unwrap();
    assert!(serving.try_take());
    let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let next = admin::listen(folder, SOCKET).unwrap();
    let admin = admin::listen(folder, admin::SOCKET).unwrap().into();
    (Sockets { public, admin, next, folder: lock }, serving)
}

async fn it_serves(proxy: ReverseProxy, folder: &std::path::Path) {
    let (address, ending) = (proxy.address(), CancellationToken::new());
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
    let dir = tempfile::tempdir().unwrap();
    let (sockets, lock) = serving(dir.path()).await;
    let address = sockets.public.local_addr().unwrap();
    let config = ProxyConfig::new(address, dir.path());
    let successor = tokio::spawn(ReverseProxy::take_over(config));
    let (stream, _) = sockets.next.accept().await.unwrap();
    let (hello, _) = hear_with(&stream).await.unwrap();
    assert!(matches!(hello, FromSuccessor::Hello { .. }), "{hello:?}");
    let offer = FromPredecessor::Offer { schema: SCHEMA, pid: std::process::id(), address };
    let Sockets { public, admin, next, folder } = &sockets;
    let files = [public.as_fd(), admin.as_fd(), next.as_fd(), folder.as_fd()];
    say_with(&stream, &offer, files).await.unwrap();
    drop((stream, sockets, lock));
    let proxy = successor.await.unwrap().unwrap();
    assert_eq!(proxy.address(), address);
    it_serves(proxy, dir.path()).await;
}

#[tokio::test]
async fn what_a_dying_one_still_has_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (sockets, lock) = serving(dir.path()).await;
    let address = sockets.public.local_addr().unwrap();
    let config = ProxyConfig::new(address, dir.path());
    let successor = tokio::spawn(ReverseProxy::take_over(config));
    let (stream, _) = sockets.next.accept().await.unwrap();
    // Its line breaks first; the kernel takes its time with the rest.
    let Sockets { public, admin, next, folder } = sockets;
    drop((stream, admin, next));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop((folder, lock));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(public);
    let proxy = successor.await.unwrap().unwrap();
    assert_eq!(proxy.address(), address);
    it_serves(proxy, dir.path()).await;
}
