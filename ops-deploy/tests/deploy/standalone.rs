//! A proxy without a site.

use std::net::SocketAddr;

use ops_deploy::{ProxyClient, ProxyConfig, ReverseProxy, TrafficSwitch as _, Upstream};
use tokio_util::sync::CancellationToken;

pub struct Proxy {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub client: ProxyClient,
    pub shutdown: CancellationToken,
    pub served: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    pub async fn with(change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.path().join("proxy"));
        let proxy = ReverseProxy::bind(change(config)).await.unwrap();
        let (address, shutdown) = (proxy.address(), CancellationToken::new());
        let served = tokio::spawn(proxy.serve(shutdown.clone()));
        let client = ProxyClient::new(dir.path().join("proxy"));
        Self { dir, address, client, shutdown, served }
    }

    pub async fn to(upstream: &Upstream, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Self {
        let proxy = Self::with(change).await;
        proxy.point(upstream).await;
        proxy
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn point(&self, to: &Upstream) {
        let epoch = self.client.current().await.unwrap().epoch;
        self.client.switch(epoch, Some(to)).await.unwrap();
    }
}
