//! The connection to an engine: every call bounded, every refusal with its words.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ImageInspect, ImageSummary,
    Network,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListNetworksOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, RenameContainerOptionsBuilder, StatsOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use ops_core::Class;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::address::EngineAddress;
use super::transport::connect;
use crate::error::{Error, ErrorKind};

/// How much of a container's output is read for a message.
const LOG_LINES: &str = "20";
const LOG_CAP: usize = 2000;
const REMOVAL_POLL: Duration = Duration::from_millis(20);
/// Seconds that outlast every call: the bound of each call is ours.
const NEVER: u64 = 24 * 60 * 60;

/// One Docker engine.
#[derive(Debug)]
pub(crate) struct Engine {
    address: EngineAddress,
    deadline: Duration,
    docker: OnceCell<Docker>,
}

/// What a container uses, as it was measured at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Both in nanoseconds since the start: the container's, and of all CPUs of the machine.
    cpu: u64,
    system: u64,
    memory: u64,
    memory_limit: u64,
}

impl Load {
    pub(crate) fn memory_share(&self) -> f64 {
        self.memory as f64 / self.memory_limit.max(1) as f64
    }

    pub(crate) fn cpu_share_since(&self, before: &Self) -> f64 {
        let (used, all) =
            (self.cpu.saturating_sub(before.cpu), self.system.saturating_sub(before.system));
        if all == 0 { 0.0 } else { used as f64 / all as f64 }
    }
}

/// What an engine has, of all applications, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    containers: i64,
    running: i64,
    images: i64,
}

/// Whether something was made, or was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Now,
    NameTaken,
}

impl Engine {
    pub(crate) fn new(address: EngineAddress, deadline: Duration) -> Self {
        Self { address, deadline, docker: OnceCell::new() }
    }

    pub(crate) fn host(&self) -> &str {
        self.address.as_str()
    }

    pub(crate) fn address(&self) -> &EngineAddress {
        &self.address
    }

    /// Whether its files and ports are those of this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.address.is_local()
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    pub(crate) async fn docker(&self) -> Result<&Docker, Error> {
        let connect = async {
            let docker =
                connect(&self.address, NEVER).map_err(|error| self.failed("be reached", error))?;
            self.bounded("tell its version", self.deadline, docker.negotiate_version()).await
        };
        self.docker.get_or_try_init(|| connect.boxed()).await
    }

    /// The library's own timeout covers the head of an answer only, and is the same for a stop that
    /// may take minutes. Boxed, for its futures are huge.
    pub(super) fn bounded<'a, T: 'a>(
        &'a self,
        what: impl Into<String>,
        deadline: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        let what = what.into();
        let call = tokio::time::timeout(deadline, call);
        call.map(move |answer| match answer {
            Ok(answer) => answer.map_err(|error| self.failed(&what, error)),
            Err(_) => Err(Error::new(
                ErrorKind::Engine,
                format!("the engine did not {what} within {deadline:?}"),
            )
            .with("engine", self.host())
            .class_of(Class::OutcomeUnknown)),
        })
        .boxed()
    }

    fn failed(&self, what: &str, error: bollard::errors::Error) -> Error {
        use bollard::errors::Error as E;
        let class = match &error {
            E::DockerResponseServerError { status_code, .. } if *status_code < 500 => {
                Class::Permanent
            }
            E::SocketNotFoundError(_) => Class::Temporary,
            _ => Class::OutcomeUnknown,
        };
        Error::new(ErrorKind::Engine, format!("the engine could not {what}"))
            .with("engine", self.host())
            .class_of(class)
            .caused_by(error)
    }

    /// How long one call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) async fn now(&self) -> Result<Timestamp, Error> {
        let docker = self.docker().await?;
        let info = self.bounded("tell its time", self.deadline, docker.info()).await?;
        let text = info.system_time.unwrap_or_default();
        text.parse().map_err(|error: jiff::Error| {
            Error::new(ErrorKind::Engine, format!("the engine says that the time is `{text}`"))
                .with("engine", self.host())
                .caused_by(error)
        })
    }

    pub(crate) async fn count(&self) -> Result<Count, Error> {
        let docker = self.docker().await?;
        let info = self.bounded("count what it has", self.deadline, docker.info()).await?;
        Ok(Count {
            containers: info.containers.unwrap_or_default(),
            running: info.containers_running.unwrap_or_default(),
            images: info.images.unwrap_or_default(),
        })
    }

    pub(crate) async fn containers(&self, label: &str) -> Result<Vec<ContainerSummary>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let call = docker.list_containers(Some(options));
        self.bounded("list its containers", self.deadline, call).await
    }

    pub(crate) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, Error> {
        let docker = self.docker().await?;
        let call = docker.inspect_container(name, None);
        let what = format!("show the container `{name}`");
        self.bounded(what, self.deadline, absent(call)).await
    }

    pub(crate) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Made, Error> {
        let docker = self.docker().await?;
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let call = async {
            match docker.create_container(Some(options), body).await {
                Ok(_) => Ok(Made::Now),
                Err(error) if status(&error) == Some(409) => Ok(Made::NameTaken),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("create the container `{name}`"), self.deadline, call).await
    }

    /// Starts a container; one that runs is left alone.
    pub(crate) async fn start(&self, name: &str) -> Result<(), Error> {
        let docker = self.docker().await?;
        let call = docker.start_container(name, None);
        self.bounded(format!("start the container `{name}`"), self.deadline, call).await
    }

    /// Stops a container, with this grace; one that is stopped or gone is left alone. Dropping the
    /// future does not take the order back.
    pub(crate) async fn stop(&self, name: &str, grace: Duration) -> Result<(), Error> {
        let docker = self.docker().await?;
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let call = absent(docker.stop_container(name, Some(options)));
        let deadline = self.deadline.saturating_add(grace);
        self.bounded(format!("stop the container `{name}`"), deadline, call).await.map(drop)
    }

    /// Removes a container, also one that runs; one that is gone, or going, is left alone.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let docker = self.docker().await?;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let call = async {
            match absent(docker.remove_container(name, Some(options))).await {
                // It is being removed already, such as for a deployer that has died: it is gone
                // when it is gone.
                Err(error) if status(&error) == Some(409) => {
                    while absent(docker.inspect_container(name, None)).await?.is_some() {
                        tokio::time::sleep(REMOVAL_POLL).await;
                    }
                    Ok(None)
                }
                other => other,
            }
        };
        self.bounded(format!("remove the container `{name}`"), self.deadline, call).await.map(drop)
    }

    /// Waits for a container that the engine may only be about to make: it goes on with what somebody
    /// who has died asked for. So the name is taken, for which the engine makes one wait for the other.
    /// Afterwards something has the name, and can be removed, or nobody's call takes it any more.
    pub(crate) async fn settle(&self, name: &str, image: &str) -> Result<(), Error> {
        let begun = Instant::now();
        while self.inspect(name).await?.is_none() && begun.elapsed() < self.deadline {
            // Without the image nobody's call makes it.
            if self.image(image).await?.is_none() {
                break;
            }
            let body = ContainerCreateBody {
                image: Some(image.to_owned()),
                cmd: Some(vec!["never-started".to_owned()]),
                ..ContainerCreateBody::default()
            };
            if self.create(name, body).await? == Made::NameTaken {
                tokio::time::sleep(REMOVAL_POLL).await;
            }
        }
        Ok(())
    }

    /// Gives a container another name; `false` if it is gone or the name is taken.
    pub(crate) async fn rename(&self, id: &str, name: &str) -> Result<bool, Error> {
        let docker = self.docker().await?;
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        let call = async {
            match docker.rename_container(id, options).await {
                Ok(()) => Ok(true),
                Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("rename the container {id}"), self.deadline, call).await
    }

    /// The images of a repository.
    pub(crate) async fn images(&self, repository: &str) -> Result<Vec<ImageSummary>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_images(Some(options));
        self.bounded(format!("list the images of `{repository}`"), self.deadline, call).await
    }

    /// What is known of an image, by its tag or its id.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        let docker = self.docker().await?;
        let call = absent(docker.inspect_image(name));
        let what = format!("show the image `{name}`");
        self.bounded(what, self.deadline, call).await
    }

    /// Takes a tag away, and the image if it was its last; what a container uses stays.
    pub(crate) async fn remove_tag(&self, tag: &str) -> Result<(), Error> {
        let docker = self.docker().await?;
        let options = RemoveImageOptionsBuilder::default().force(false).build();
        let call = async {
            match absent(docker.remove_image(tag, Some(options), None)).await {
                Err(error) if status(&error) == Some(409) => {
                    tracing::warn!(target: "ops", tag, "the image is in use, and stays");
                    Ok(None)
                }
                other => other,
            }
        };
        self.bounded(format!("remove the image `{tag}`"), self.deadline, call).await.map(drop)
    }

    /// The networks of this name: names are not unique.
    pub(crate) async fn networks(&self, name: &str) -> Result<Vec<Network>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_networks(Some(options));
        let mut networks =
            self.bounded(format!("list the networks `{name}`"), self.deadline, call).await?;
        // The filter answers also what only contains the name.
        networks.retain(|network| network.name.as_deref() == Some(name));
        Ok(networks)
    }

    /// What a container uses now; `None` if that cannot be had, as of one that has ended, or that is
    /// on another node.
    pub(crate) async fn load(&self, name: &str) -> Result<Option<Load>, Error> {
        let docker = self.docker().await?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let call = absent(async { docker.stats(name, Some(options)).next().await.transpose() });
        let stats = self.bounded(format!("tell the load of `{name}`"), self.deadline, call).await?;
        Ok(stats.flatten().and_then(|stats| {
            let (cpu, memory) = (stats.cpu_stats?, stats.memory_stats?);
            // What can be given back at once is not used.
            let detail = memory.stats.unwrap_or_default();
            let cache = detail.get("inactive_file").or_else(|| detail.get("total_inactive_file"));
            Some(Load {
                cpu: cpu.cpu_usage?.total_usage?,
                // Without it there is no share.
                system: cpu.system_cpu_usage.filter(|all| *all > 0)?,
                memory: memory.usage?.saturating_sub(cache.copied().unwrap_or_default()),
                memory_limit: memory.limit?,
            })
        }))
    }

    /// The end of what a container said; `None` if it said nothing, or that cannot be had.
    pub(crate) async fn log_tail(&self, name: &str) -> Option<String> {
        let docker = self.docker().await.ok()?;
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LOG_LINES).build();
        let mut lines = docker.logs(name, Some(options));
        let mut text = String::new();
        let read = async {
            while let Some(Ok(line)) = lines.next().await {
                text.push_str(&line.to_string());
                if text.len() > LOG_CAP {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(self.deadline, read).await;
        let plain: String =
            text.chars().filter(|c| !c.is_control() || *c == '\n').take(LOG_CAP).collect();
        let plain = plain.trim().replace('\n', " | ");
        (!plain.is_empty()).then_some(plain)
    }
}

pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What is not there is no error.
pub(super) async fn absent<T>(
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<Option<T>, bollard::errors::Error> {
    match call.await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
