//! A small reverse proxy that moves traffic without losing a request.
//!
//! It is a process of its own, so that deployers and services come and go while connections stay.
//! Clients speak HTTP/1.1, or HTTP/2 with prior knowledge; services are spoken to in HTTP/1.1. Bodies
//! are streamed in both directions, connections kept alive. Its pointer survives `kill -9`: it is on
//! disk before any request follows it.
//!
//! WebSocket connections are carried as they are, and count as requests under way until they end; no
//! other change of protocol is. [`ProxyStatus`] has a [`Tally`] of what each instance answered.
//!
//! Another process can [take its place](ReverseProxy::take_over), as a new program or with another
//! configuration, without a connection refused or a request cut off.
//!
//! Limits: no TLS (put it behind what ends TLS), no HTTP/2 to services, so no gRPC. While a proxy that
//! was stopped or killed is not started again, connections are refused. An answer may take as long as it likes once it has
//! begun; what bounds it in a deployment is the time for draining. A request with a body whose
//! upstream dies is answered with 502 and never sent twice.

mod admin;
mod client;
mod connection;
mod forward;
mod handover;
mod headers;
mod heard;
mod owed;
mod paced;
mod pointer_file;
mod routes;
mod server;
mod tally;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use admin::{Answered, InFlight, ProxyStatus};
pub use client::ProxyClient;
pub use server::{ReverseProxy, serve};
pub use tally::Tally;

/// How a proxy is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// Where it listens for the public. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its pointer and its admin socket lie; one proxy a folder.
    pub state_dir: PathBuf,
    /// How many client connections it keeps open; more wait to be accepted. Default: 4096.
    pub max_connections: usize,
    /// How long a client may take to send a request's head, and to take any piece of its answer;
    /// and how long an idle connection is kept. Default: 75 s.
    pub client_timeout: Duration,
    /// How long connecting to an instance may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long an instance may take to begin its answer, counted from the last piece of the
    /// request's body; 504 after that. Default: 60 s.
    pub response_timeout: Duration,
    /// How long requests may go on after the shutdown began. Default: 30 s.
    pub shutdown_grace: Duration,
    /// How long requests and WebSockets may go on after another process has taken the place of this
    /// one. Default: 10 min.
    pub handover_grace: Duration,
    /// How long a WebSocket may be silent in both directions. Default: 1 hour.
    pub tunnel_idle: Duration,
}

impl ProxyConfig {
    /// The defaults, with what has none.
    pub fn new(listen: SocketAddr, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            state_dir: state_dir.into(),
            max_connections: 4096,
            client_timeout: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_mins(1),
            shutdown_grace: Duration::from_secs(30),
            handover_grace: Duration::from_mins(10),
            tunnel_idle: Duration::from_hours(1),
        }
    }

    /// How many client connections it keeps open.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// How long a client may take for a request's head, take nothing of its answer, or stay idle.
    pub fn client_timeout(mut self, timeout: Duration) -> Self {
        self.client_timeout = timeout;
        self
    }

    /// How long connecting to an instance may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an instance may take to begin its answer.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How long a WebSocket may be silent in both directions.
    pub fn tunnel_idle(mut self, idle: Duration) -> Self {
        self.tunnel_idle = idle;
        self
    }

    /// How long requests may go on after the shutdown began.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// How long requests may go on after another process has taken the place of this one.
    pub fn handover_grace(mut self, grace: Duration) -> Self {
        self.handover_grace = grace;
        self
    }
}
