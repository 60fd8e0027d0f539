//! Asks a service as the public does, and counts what was not answered well. For tests and
//! benchmarks, with the feature `test-util`.
//!
//! It says how many requests a deployment has cost; the deployer cannot know. It runs on a thread of
//! its own, asks addresses of this machine only, and ends by itself.
//!
//! ```no_run
//! use ops_deploy::load::Load;
//!
//! let load = Load::on("127.0.0.1:8080".parse()?).fresh(2).kept(4).per_second(1000).start()?;
//! // ... deploy ...
//! let figures = load.stop();
//! assert_eq!(figures.failed, 0, "{figures}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connection;
mod figures;
mod run;
mod session;

use std::net::SocketAddr;
use std::time::Duration;

use ops_core::Refusal;

pub use figures::Figures;
pub use run::LoadRun;

use crate::error::{Error, ErrorKind};

/// So many clients at most.
const MOST_CLIENTS: usize = 64;
const MOST_A_SECOND: u32 = 20_000;

/// Who asks, and how often.
#[derive(Debug, Clone)]
#[must_use = "call `start`"]
pub struct Load {
    address: SocketAddr,
    path: String,
    slow_path: String,
    socket_path: String,
    fresh: usize,
    kept: usize,
    slow: usize,
    sockets: usize,
    rate: Option<u32>,
    patience: Duration,
    most: Duration,
}

impl Load {
    /// Nobody yet, who would ask at this address for `/`.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            path: "/".to_owned(),
            slow_path: "/slow?ms=200".to_owned(),
            socket_path: "/ws".to_owned(),
            fresh: 0,
            kept: 0,
            slow: 0,
            sockets: 0,
            rate: None,
            patience: Duration::from_secs(10),
            most: Duration::from_mins(30),
        }
    }

    /// So many clients that open a connection for each request. Default: none.
    pub fn fresh(mut self, clients: usize) -> Self {
        self.fresh = clients;
        self
    }

    /// So many clients that keep their connection. Default: none.
    pub fn kept(mut self, clients: usize) -> Self {
        self.kept = clients;
        self
    }

    /// So many clients that keep their connection and ask for `/slow?ms=200`, whose answer takes
    /// 200 ms. Default: none.
    pub fn slow(mut self, clients: usize) -> Self {
        self.slow = clients;
        self
    }

    /// So many clients that open a WebSocket at `/ws`, say something five times, 20 ms apart, hear
    /// the same each time, close it, and begin again. Default: none.
    pub fn sockets(mut self, clients: usize) -> Self {
        self.sockets = clients;
        self
    }

    /// How many requests a second the fresh and the kept clients send together, evenly; a client
    /// whose answers take longer sends less. Default: as many as they can.
    pub fn per_second(mut self, requests: u32) -> Self {
        self.rate = Some(requests);
        self
    }

    /// How long one answer may take before it counts as failed. Default: 10 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// When it ends by itself. Default: after 30 min.
    pub fn at_most(mut self, most: Duration) -> Self {
        self.most = most;
        self
    }

    /// Begins to ask.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the address is not of this machine, or if it is too much or
    /// nothing at all; [`ErrorKind::Io`] if there can be no thread.
    pub fn start(self) -> Result<LoadRun, Error> {
        let clients = self.fresh + self.kept + self.slow + self.sockets;
        let mut refusals = Vec::new();
        if !self.address.ip().is_loopback() {
            refusals.push(Refusal::new(
                format!("`{}` is not on this machine", self.address),
                "ask a loopback address: nobody else is to be loaded",
            ));
        }
        if clients == 0 || clients > MOST_CLIENTS {
            refusals.push(Refusal::new(
                format!("{clients} clients would ask"),
                format!("take 1 to {MOST_CLIENTS}"),
            ));
        }
        if self.rate.is_some_and(|rate| rate == 0 || rate > MOST_A_SECOND) {
            refusals.push(Refusal::new(
                format!("{} requests a second are wanted", self.rate.unwrap_or_default()),
                format!("take 1 to {MOST_A_SECOND}"),
            ));
        }
        if !refusals.is_empty() {
            let error = Error::new(ErrorKind::InvalidConfig, "the load is not set up well");
            return Err(error.refusals(refusals));
        }
        LoadRun::start(self)
    }
}
