//! The proxy of a stage, in this process: `DIR/proxy`, and `DIR/public` with its address.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ops_deploy::{ProxyConfig, ReverseProxy};
use tokio_util::sync::CancellationToken;

/// A proxy that ends with its stage.
pub struct Public {
    pub address: SocketAddr,
    pub end: CancellationToken,
}

impl Public {
    pub async fn before(dir: &Path) -> Self {
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.join("proxy"))
            .shutdown_grace(Duration::from_secs(1));
        let proxy = ReverseProxy::bind(config).await.unwrap();
        let (address, end) = (proxy.address(), CancellationToken::new());
        std::fs::write(dir.join("public"), address.to_string()).unwrap();
        tokio::spawn(proxy.serve(end.clone()));
        Self { address, end }
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
