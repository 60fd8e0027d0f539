//! A directory with releases and a proxy, and the end of every process in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ops_core::{Context, Version};
use ops_deploy::release::{Instance, ReleaseDirectoryBuilder};
use ops_deploy::service::Liveness;
use ops_deploy::{
    Detached, ProxyClient, ProxyConfig, ReleaseDirectory, ReverseProxy, ServiceManager,
};
use tokio_util::sync::CancellationToken;

pub const SERVICE: &str = env!("CARGO_BIN_EXE_ops-deploy-test-service");
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-deploy-test-program");

pub fn v(text: &str) -> Version {
    text.parse().unwrap()
}

/// Makes a release whose service behaves in this way.
pub fn release(dir: &Path, version: &str, mode: &str) {
    let folder = dir.join("site/releases").join(version);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mode"), mode).unwrap();
}

/// Ends whatever runs in a site; answers how many instances did.
pub fn end_all(dir: &Path) -> usize {
    let mut ended = 0;
    let now = CancellationToken::new();
    now.cancel();
    for entry in std::fs::read_dir(dir.join("site/run")).into_iter().flatten().flatten() {
        let folder = entry.path();
        if Detached::new().liveness(&folder).unwrap() != Liveness::Stopped {
            ended += 1;
        }
        Detached::new().stop(&folder, Duration::ZERO, &now).unwrap();
    }
    ended
}

pub struct Stage {
    dir: tempfile::TempDir,
    proxy: Option<(SocketAddr, CancellationToken)>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((_, token)) = &self.proxy {
            token.cancel();
        }
        end_all(self.dir.path());
    }
}

impl Stage {
    pub async fn new() -> Self {
        let mut stage = Self::without_proxy();
        let token = CancellationToken::new();
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), stage.path().join("proxy"))
            .shutdown_grace(Duration::from_secs(1));
        let proxy = ReverseProxy::bind(config).await.unwrap();
        let address = proxy.address();
        std::fs::write(stage.path().join("public"), address.to_string()).unwrap();
        tokio::spawn(proxy.serve(token.clone()));
        stage.proxy = Some((address, token));
        stage
    }

    pub fn without_proxy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("site/releases")).unwrap();
        Self { dir, proxy: None }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn builder(&self) -> ReleaseDirectoryBuilder {
        crate::site::builder(self.path(), Path::new(SERVICE))
    }

    pub fn site(&self) -> ReleaseDirectory {
        self.builder().build().unwrap()
    }

    pub fn cx(&self) -> Context {
        crate::site::context(self.path())
    }

    pub fn client(&self) -> ProxyClient {
        ProxyClient::new(self.path().join("proxy"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.as_ref().unwrap().0)
    }

    pub fn release(&self, version: &str, mode: &str) -> PathBuf {
        release(self.path(), version, mode);
        self.path().join("site/releases").join(version)
    }

    pub fn link(&self) -> Option<String> {
        let target = std::fs::read_link(self.path().join("site/current")).ok()?;
        Some(target.to_str().unwrap().to_owned())
    }

    pub async fn running(&self) -> Vec<Instance> {
        let status = self.site().look().await.unwrap();
        status.instances.into_iter().filter(Instance::runs).collect()
    }
}

pub type Http = Client<HttpConnector, Empty<Bytes>>;

pub fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Gets a page: status, version header, body.
pub async fn get(http: &Http, url: &str) -> Result<(u16, String, String), String> {
    let request = Request::get(url).body(Empty::new()).map_err(|e| e.to_string())?;
    let answer: Response<_> = http.request(request).await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status().as_u16();
    let version = answer.headers().get("x-version").map(|v| v.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    Ok((status, version.unwrap_or_default(), String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until something is so, for at most ten seconds.
pub async fn until<F: AsyncFnMut() -> Result<(), String>>(mut so: F) {
    let begun = Instant::now();
    loop {
        match so().await {
            Ok(()) => return,
            Err(last) if begun.elapsed() > Duration::from_secs(10) => panic!("still: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
