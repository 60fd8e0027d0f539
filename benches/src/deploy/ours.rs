//! A Docker host behind our proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::{Context, Environment, Version};
use ops_deploy::{ContainerSpec, DockerHost, ProxyClient, ProxyConfig, ReverseProxy, Target as _};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::Served;
use super::engine::{Application, TAGS, docker, host};
use crate::Failure;

/// What the version that is gone back to still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// Its container runs.
    Warm,
    /// Its container is kept, stopped.
    Stopped,
    /// Its image.
    Cold,
}

pub(super) struct Ours {
    back: Back,
    host: DockerHost,
    folder: PathBuf,
    address: SocketAddr,
    /// Before the runtime, in which the proxy serves.
    application: Application,
    end: CancellationToken,
    runtime: Runtime,
}

impl Ours {
    /// With the first version in service.
    pub fn new(folder: &Path, back: Back) -> Result<Self, Failure> {
        let application = Application::new(folder)?;
        let (runtime, end) = (Runtime::new()?, CancellationToken::new());
        let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), folder.join("proxy"));
        let proxy = runtime.block_on(ReverseProxy::bind(config))?;
        let address = proxy.address();
        runtime.spawn(proxy.serve(end.clone()));
        let web = ContainerSpec::new("web", application.repository())
            .argv(["/serve", "{port}"])
            .stop_grace(Duration::from_secs(1))
            .traffic(ProxyClient::new(folder.join("proxy")))
            .public_url(format!("http://{address}").parse()?);
        let host = DockerHost::builder(&application.0, host(), folder)
            .keep_previous_warm(back == Back::Warm)
            .service(web)
            .build()?;
        let folder = folder.to_owned();
        let mut ours = Self { back, host, folder, address, application, end, runtime };
        ours.bring(0)?;
        Ok(ours)
    }
}

impl Served for Ours {
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// The second version is deployed; to the first one it goes back.
    fn bring(&mut self, version: usize) -> Result<(), Failure> {
        let to: Version = TAGS[version].parse()?;
        let state = self.folder.join("state");
        let cx = Context::builder(state).environment(Environment::Development).build();
        self.runtime.block_on(async {
            let current = self.host.observe().await?.current;
            if current.as_ref() == Some(&to) {
                return Ok(());
            }
            if version == 1 || current.is_none() {
                self.host.deploy(&cx, &to).await?;
                return Ok(());
            }
            self.host.rollback(&cx, Some(to)).await?;
            Ok::<(), Failure>(())
        })?;
        if self.back == Back::Cold {
            for id in self.application.containers(Some("exited"))? {
                docker(&["rm", &id])?;
            }
        }
        Ok(())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
