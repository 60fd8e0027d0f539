//! A site, or an application on an engine, with two versions between which it goes to and fro, and a
//! proxy in a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ops_core::{Context, Version};
use ops_deploy::{ProxyClient, Target};
use tokio::runtime::Runtime;

use crate::asking::{until, v};

/// What is deployed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Release,
    Docker,
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "release" => Ok(Self::Release),
            "docker" => Ok(Self::Docker),
            other => Err(format!("no target `{other}` (known: release, docker)")),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Release { "release" } else { "docker" })
    }
}

fn beside(program: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(program)
}

fn service() -> PathBuf {
    beside("ops-deploy-test-service")
}

impl Kind {
    /// The versions: the first is deployed when the arena is made.
    pub fn versions(self) -> [Version; 2] {
        match self {
            Self::Release => [v("v1"), v("v2")],
            Self::Docker => [v("a000001"), v("a000002")],
        }
    }

    pub fn target(self, dir: &Path, warm: bool) -> Box<dyn Target> {
        match self {
            Self::Release => {
                let site = crate::site::builder(dir, &service()).keep_previous_warm(warm);
                Box::new(site.build().unwrap())
            }
            Self::Docker => {
                let host = crate::dock::bare(dir, crate::dock::engine()).keep_previous_warm(warm);
                Box::new(host.service(crate::dock::web(dir)).build().unwrap())
            }
        }
    }

    pub fn context(self, dir: &Path) -> Context {
        match self {
            Self::Release => crate::site::context(dir),
            Self::Docker => crate::dock::context(dir),
        }
    }

    /// The version that everything agrees upon.
    pub async fn agreement(self, dir: &Path) -> Result<Version, String> {
        let found = match self {
            Self::Release => crate::site_state::agreement(dir, &service()).await?,
            Self::Docker => crate::dock_state::agreement(dir).await?,
        };
        found.ok_or_else(|| "nothing is in service".to_owned())
    }
}

pub struct Arena {
    pub kind: Kind,
    pub dir: PathBuf,
    /// Of the proxy.
    pub address: SocketAddr,
    proxy: Child,
    pub runtime: Runtime,
}

impl Arena {
    /// Makes it in a new folder, and brings the first version into service.
    pub fn create(kind: Kind, dir: &Path) -> Self {
        std::fs::create_dir(dir).expect("the folder is to be new");
        let dir = dir.canonicalize().unwrap();
        let runtime = Runtime::new().unwrap();
        let proxy = Command::new(beside("ops-deploy-test-program")).arg("proxy").arg(&dir).spawn();
        // From here on its end is that of the arena.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut arena = Self { kind, dir, address: nowhere, proxy: proxy.unwrap(), runtime };
        let dir = &arena.dir;
        arena.address = arena.runtime.block_on(async {
            let client = ProxyClient::new(dir.join("proxy"));
            let mut address = nowhere;
            until(async || {
                address = client.status().await.map_err(|error| error.to_string())?.address;
                Ok(())
            })
            .await;
            std::fs::write(dir.join("public"), address.to_string()).unwrap();
            match kind {
                Kind::Release => {
                    for version in kind.versions() {
                        let folder = dir.join("site/releases").join(version.as_str());
                        std::fs::create_dir_all(folder).unwrap();
                    }
                }
                Kind::Docker => {
                    crate::images::new_application(dir);
                    let repository = format!("{}/web", crate::dock::application(dir));
                    for version in kind.versions() {
                        crate::images::import(&format!("{repository}:{version}"), "healthy", &[])
                            .await;
                    }
                }
            }
            let [first, _] = kind.versions();
            kind.target(dir, false).deploy(&kind.context(dir), &first).await.unwrap();
            address
        });
        arena
    }

    pub fn agreement(&self) -> Result<Version, String> {
        self.runtime.block_on(self.kind.agreement(&self.dir))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
        match self.kind {
            Kind::Release => drop(crate::site_state::end_all(&self.dir)),
            Kind::Docker if self.dir.join("app").exists() => {
                let application = crate::dock::application(&self.dir);
                self.runtime.block_on(crate::images::remove_all(&application));
            }
            Kind::Docker => {}
        }
    }
}
