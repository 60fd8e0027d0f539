//! Whether something listens on a TCP address.

use futures::future::{BoxFuture, FutureExt as _};
use tokio::net::TcpStream;

use super::{Health, Probe};

/// Healthy if a TCP connection can be opened. That says nothing about who answers: for a release,
/// use a probe that checks its identity.
#[derive(Debug, Clone)]
pub struct TcpProbe {
    name: String,
    address: String,
}

impl TcpProbe {
    /// Connects to `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        let address = address.into();
        Self { name: format!("tcp {address}"), address }
    }
}

impl Probe for TcpProbe {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        async {
            match TcpStream::connect(&self.address).await {
                Ok(_) => Health::Healthy,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Health::unhealthy(format!("nothing listens on {}", self.address))
                }
                Err(error) => {
                    Health::unknown(format!("cannot connect to {}: {error}", self.address))
                }
            }
        }
        .boxed()
    }
}
