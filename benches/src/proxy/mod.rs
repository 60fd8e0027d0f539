//! What the reverse proxy does, beside nginx and haproxy, before the same service.
//!
//! Each proxy is a process of its own with as many workers as there are processors; the load and the
//! service are in this one. Many connections tell what the proxy can carry: the work of its processors
//! is what counts, for the load takes most of the time on the clock. One connection tells what a request
//! takes longer, and a side without any proxy what of it is the service's.

mod load;
mod peer;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use ops_deploy::{ProxyClient, ProxyConfig, ReverseProxy, TrafficSwitch as _, Upstream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::rounds::{Benchmark, Cost, Side};
use crate::{Failure, Wish, peers};
use load::{Connections, serve};
use peer::Peer;

/// Our side, as a program of its own.
pub const PROGRAM: &str = "proxy-ours";
/// How many connections ask at the same time.
const MANY: usize = 32;

/// That the peers are there.
///
/// # Errors
/// Of those that are not, with their packages.
pub fn need_programs(_: &Wish) -> Result<(), Failure> {
    peers::need("proxy", &[("nginx", "nginx-light"), ("haproxy", "haproxy")])
}

/// Runs the proxy: `proxy-ours FOLDER UPSTREAM`. It ends when it is killed.
///
/// # Errors
/// Those of the proxy.
pub fn act(arguments: &[String]) -> Result<String, Failure> {
    let [folder, upstream] = arguments else {
        return Err("it takes a folder and the address of a service".into());
    };
    let (folder, upstream) = (Path::new(folder), upstream.parse()?);
    Runtime::new()?.block_on(async {
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), folder);
        let proxy = ReverseProxy::bind(config).await?;
        let address = proxy.address();
        let serving = tokio::spawn(proxy.serve(CancellationToken::new()));
        let to = Upstream { address: upstream, instance: "service".to_owned() };
        ProxyClient::new(folder).switch(0, Some(&to)).await?;
        std::fs::write(folder.join("address"), address.to_string())?;
        serving.await?;
        Ok(String::new())
    })
}

/// Who is asked: a proxy, or the service itself.
struct Subject {
    name: &'static str,
    address: SocketAddr,
    peer: Option<Peer>,
}

/// All that is measured.
///
/// # Errors
/// Of a program that is missing or does not listen.
pub fn benchmarks(wish: &Wish) -> Result<Vec<Benchmark>, Failure> {
    need_programs(wish)?;
    let runtime = Rc::new(Runtime::new()?);
    let service = runtime.block_on(serve())?;
    let folder = wish.folder.join("proxy");
    let started = [
        ("ops", Peer::ours(&folder.join("ops"), service)?),
        ("peer: nginx", Peer::nginx(&folder.join("nginx"), service)?),
        ("peer: haproxy", Peer::haproxy(&folder.join("haproxy"), service)?),
    ];
    let mut subjects: Vec<_> = started
        .into_iter()
        .map(|(name, peer)| Subject { name, address: peer.address, peer: Some(peer) })
        .collect();
    subjects.push(Subject { name: "peer: no proxy", address: service, peer: None });
    let subjects: Vec<_> = subjects.into_iter().map(Rc::new).collect();
    let (requests, rounds) = if wish.quick { (5_000, 5) } else { (30_000, 15) };
    let alone = requests / 10;
    Ok(vec![
        benchmark(
            "proxy: 32 connections, a request",
            &runtime,
            &subjects[..3],
            MANY,
            requests,
            rounds,
        ),
        benchmark("proxy: 1 connection, a request", &runtime, &subjects, 1, alone, rounds),
    ])
}

fn benchmark(
    group: &str,
    runtime: &Rc<Runtime>,
    subjects: &[Rc<Subject>],
    connections: usize,
    requests: u32,
    rounds: usize,
) -> Benchmark {
    let sides = subjects.iter().map(|subject| {
        let (subject, runtime) = (Rc::clone(subject), Rc::clone(runtime));
        // Opened once, as a client keeps them; outside of the time.
        let mut open: Option<Connections> = None;
        Side::new(subject.name, move || {
            runtime.block_on(async {
                if open.is_none() {
                    open = Some(Connections::open(subject.address, connections).await?);
                }
                let work = || subject.peer.as_ref().map(Peer::processors).transpose();
                let before = work()?;
                let connections = open.as_mut().ok_or("there are no connections")?;
                let wall = connections.ask(requests).await?;
                let after = work()?;
                let cpu = after.zip(before).map(|(after, before)| after.saturating_sub(before));
                // Where some sides have none, none is told for any.
                Ok(Cost { cpu, ..Cost::from(wall) })
            })
        })
    });
    Benchmark {
        group: group.to_owned(),
        items: requests,
        bytes: None,
        rounds,
        sides: sides.collect(),
    }
}
