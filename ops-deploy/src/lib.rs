//! Deploy, roll back and switch traffic as journalled, reversible operations.
//!
//! The new version starts beside the old one, on a port of its own; it is asked who it is; the
//! traffic moves to it; the old one answers its last requests and ends. Whatever fails before the
//! commit, also the deployer itself, the old version serves on.
//!
//! ```no_run
//! use ops_core::{Context, Environment};
//! use ops_deploy::{ProxyClient, ReleaseDirectory, ServiceSpec, Target};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceSpec::new(["bin/shop", "--port", "{port}"]).env("VERSION", "{version}");
//! let site = ReleaseDirectory::builder("/srv/shop", service)
//!     .traffic(ProxyClient::new("/srv/shop/proxy"))
//!     .public_url("http://127.0.0.1:8080".parse()?)
//!     .build()?;
//! let cx = Context::builder("/var/lib/ops").environment(Environment::Staging).build();
//!
//! println!("{}", site.plan_deploy(&"1a2b3c4".parse()?).await?); // the dry run
//! site.deploy(&cx, &"1a2b3c4".parse()?).await?;
//! site.rollback(&cx, None).await?; // to the version before
//! # Ok(())
//! # }
//! ```
//!
//! # Without a service
//! A [`MemorySwitch`] stands in for the proxy in your own tests, and a plan can be read anywhere:
//!
//! ```
//! use ops_deploy::{MemorySwitch, ReleaseDirectory, ServiceSpec, Target};
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let root = tempfile::tempdir()?;
//! let service = ServiceSpec::new(["bin/shop", "--port", "{port}"]);
//! let site = ReleaseDirectory::builder(root.path(), service).traffic(MemorySwitch::new()).build()?;
//!
//! let plan = site.plan_deploy(&"v1.2.0".parse()?).await?;
//! assert!(plan.to_string().contains("start v1.2.0 beside what runs"), "{plan}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?; Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! | feature | what it brings |
//! |---|---|
//! | `docker` | `DockerHost`: releases as images, services as containers, on one host or several; `Swarm`: services of a cluster |
//! | `test-util` | fault points and the crash harness of ops-core, and a [load](load::Load) generator, for tests |
//!
//! # What is proven where
//! Linux. Processes are identified through `/proc` and kernel locks.

#[cfg(feature = "docker")]
pub mod docker;
mod effects;
mod error;
mod fate;
mod gate;
#[cfg(test)]
mod golden;
mod history;
#[cfg(feature = "test-util")]
pub mod load;
mod open_journals;
mod planning;
pub mod preflight;
pub mod provider;
pub mod proxy;
mod recording;
pub mod release;
pub mod service;
mod set_up;
mod speed;
pub mod stages;
mod switching;
mod target;
mod traffic;

#[cfg(feature = "docker")]
pub use docker::{ContainerSpec, DockerHost, DockerHosts, Swarm, SwarmService};
pub use error::{Error, ErrorKind};
pub use gate::Gate;
pub use history::{Entry, History, Verb};
pub use preflight::Preflight;
pub use provider::Provider;
pub use proxy::{ProxyClient, ProxyConfig, ReverseProxy};
pub use release::{ReleaseDirectory, ReleaseHealth};
pub use service::{Detached, Identity, ServiceManager, ServiceSpec};
pub use stages::{Bake, Hook, Migration, Quiet, StageStep, When};
pub use target::{Known, LockHolder, Observed, Running, Target};
pub use traffic::{MemorySwitch, Pointer, TrafficSwitch, Upstream};
