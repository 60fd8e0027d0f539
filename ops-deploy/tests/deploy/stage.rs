//! A directory with releases and a proxy, and the end of every process in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::Context;
use ops_deploy::release::{Instance, ReleaseDirectoryBuilder};
use ops_deploy::service::Liveness;
use ops_deploy::{Detached, ProxyClient, ReleaseDirectory, ServiceManager};
use tokio_util::sync::CancellationToken;

pub use crate::asking::{get, http, until, v};
use crate::public::Public;

pub const SERVICE: &str = env!("CARGO_BIN_EXE_ops-deploy-test-service");
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-deploy-test-program");

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
    proxy: Option<Public>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        end_all(self.dir.path());
    }
}

impl Stage {
    pub async fn new() -> Self {
        let mut stage = Self::without_proxy();
        stage.proxy = Some(Public::before(stage.path()).await);
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
        format!("http://{}{path}", self.proxy.as_ref().unwrap().address)
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
