//! A Docker host behind our proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::{Context, Environment, Report, Version};
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

impl Ours {
    /// The second version is deployed; to the first one it goes back. Nothing if it is there.
    pub fn go(&mut self, version: usize) -> Result<Option<Report>, Failure> {
        let to: Version = TAGS[version].parse()?;
        let state = self.folder.join("state");
        let cx = Context::builder(state).environment(Environment::Development).build();
        let done = self.runtime.block_on(async {
            let current = self.host.observe().await?.current;
            if current.as_ref() == Some(&to) {
                return Ok(None);
            }
            if version == 1 || current.is_none() {
                return Ok(Some(self.host.deploy(&cx, &to).await?));
            }
            Ok::<_, Failure>(Some(self.host.rollback(&cx, Some(to)).await?))
        })?;
        if self.back == Back::Cold {
            for id in self.application.containers(Some("exited"))? {
                docker(&["rm", &id])?;
            }
        }
        Ok(done)
    }

    /// The lock of a deployer that died, and whose lease has ended.
    pub fn leave_a_lock(&self) -> Result<(), Failure> {
        let application = &self.application.0;
        let (name, image) = (format!("{application}.ops-lock"), self.application.image(TAGS[0]));
        let labels =
            [("application", application.as_str()), ("role", "lock"), ("lease-seconds", "0")];
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("--label=ops-deploy.{key}={value}")).collect();
        let mut words = vec!["create", "--name", name.as_str()];
        words.extend(labels.iter().map(String::as_str));
        words.extend([image.as_str(), "never-started"]);
        docker(&words).map(drop)
    }
}

impl Served for Ours {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn bring(&mut self, version: usize) -> Result<(), Failure> {
        self.go(version).map(drop)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
